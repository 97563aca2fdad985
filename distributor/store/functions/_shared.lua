-- Purpose: code shared by the functions: reading a command, and collecting the writes of a batch.
-- Included once before the functions; not a function itself.
--
-- A function first reads and validates everything, then writes: Valkey has no rollback. Writes to a command's own
-- keys happen immediately; writes to shared indexes are collected in a batch and made together.

-- `math` is not available while a library is loading.
local function floor(x) return x - x % 1 end

-- Names include the version of this source, so that servers of two versions can share a Valkey during an upgrade.
local function register(name, callback, flags)
  server.register_function{function_name = name .. '_' .. VERSION, callback = callback, flags = flags}
end

-- The state of one call. `now` and `now_us` are Valkey's time, the only clock.
local function new_batch(replica)
  local time = server.call('TIME')
  local now_us = time[1] * 1000000 + time[2]
  return {
    now = floor(now_us / 1000), now_us = now_us,
    -- As text: passing on a number makes Lua format it with seventeen digits, which is slow.
    stamp = string.format('%.0f', floor(now_us / 1000)),
    strings = {}, removals = {}, additions = {}, freed = {}, taken = {},
    events = {'origin', replica},
  }
end

local function append(lists, key, value)
  local list = lists[key]
  if list then list[#list + 1] = value else lists[key] = {value} end
end

local function index(batch, key, score, id)
  append(batch.additions, key, score)
  append(batch.additions, key, id)
end

local function unindex(batch, key, id)
  append(batch.removals, key, id)
end

-- Whole numbers beyond this are not exact.
local MAX_EXACT = 2 ^ 53

-- Microseconds have 16 digits, more than Lua prints by default.
local function whole(number)
  return string.format('%.0f', number)
end

-- Makes the collected writes. The last step of a function before it returns.
local function commit(batch, events_kept)
  if #batch.strings > 0 then server.call('MSET', unpack(batch.strings)) end
  for key, members in pairs(batch.removals) do server.call('ZREM', key, unpack(members)) end
  for key, pairs_of_score_and_id in pairs(batch.additions) do
    server.call('ZADD', key, unpack(pairs_of_score_and_id))
  end
  for key, members in pairs(batch.freed) do server.call('SREM', key, unpack(members)) end
  for key, members in pairs(batch.taken) do server.call('SADD', key, unpack(members)) end
  if #batch.events > 2 then
    server.call('XADD', EVENTS_KEY, 'MAXLEN', '~', events_kept, '*', unpack(batch.events))
  end
end

-- All fields of a command in the order of FIELDS, '' if unset; nil if there is no such command.
local function read(id)
  local fields = server.call('HMGET', status_key(id), unpack(FIELDS))
  if not fields[F_STATUS] then return nil end
  for i = 1, #FIELDS do
    if not fields[i] then fields[i] = '' end
  end
  return fields
end

local function number(fields, field)
  return tonumber(fields[field]) or 0
end

-- Whether a comma-separated list of states, as built from model/lifecycle.py, contains this one.
local function among(states, state)
  return string.find(',' .. states .. ',', ',' .. state .. ',', 1, true) ~= nil
end

local function announce(batch, kind, id, fields)
  fields[F_REVISION] = number(fields, F_REVISION) + 1
  server.call('HSET', status_key(id), 'revision', fields[F_REVISION])
  local events = batch.events
  events[#events + 1] = id
  events[#events + 1] = kind .. '\t' .. table.concat(fields, '\t', 1, ROW_LENGTH)
end

-- Moves a command to another state in the index of states. The only way to change a state, and only as permitted by
-- the table in model/lifecycle.py: anything else is a bug and aborts the call.
local function move(batch, id, fields, to)
  if not TRANSITIONS[fields[F_STATUS]][to] then
    error('no operation permits the change from ' .. fields[F_STATUS] .. ' to ' .. to)
  end
  unindex(batch, by_status_key(fields[F_STATUS]), id)
  index(batch, by_status_key(to), fields[F_QUEUED_US], id)
  fields[F_STATUS] = to
end

-- Formats milliseconds as RFC 3339 in UTC (days to date after H. Hinnant, "chrono-compatible low-level date
-- algorithms").
local function rfc3339(ms)
  local seconds = floor(ms / 1000)
  local days = floor(seconds / 86400)
  local rest = seconds - days * 86400
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local day = doy - floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    floor(rest / 3600), floor(rest / 60) % 60, rest % 60, ms - seconds * 1000)
end

-- The result as JSON, in the form of result_document in wire/documents.py. `members` is the JSON text of the members
-- that only the agent knows, each followed by a comma, or '' if no agent reported a result.
local function result_json(id, fields, members, output_bytes, finish_time)
  local reason = 'null'
  if fields[F_CODE] ~= '' then
    reason = cjson.encode({code = fields[F_CODE], message = fields[F_MESSAGE]})
  end
  if members == '' then members = '"exitCode":null,"data":null,' end
  return table.concat({
    '{"commandId":"', id, '","agentId":"', fields[F_AGENT_ID], '","type":"', fields[F_TYPE],
    '","status":"', fields[F_STATUS], '","attempt":', number(fields, F_ATTEMPT), ',"reason":', reason, ',', members,
    '"outputBytes":', whole(output_bytes), ',"outputDroppedBytes":', whole(number(fields, F_OUTPUT_DROPPED)),
    ',"finishTime":"', finish_time, '"}',
  })
end

-- The queue that this command belongs to.
local function queue_key(fields)
  return (CONTROL_TYPES[fields[F_TYPE]] and control_key or ready_key)(fields[F_AGENT_ID])
end

-- Removes a queued command from its queue, whether ready or delayed.
local function leave_queue(batch, id, fields)
  unindex(batch, queue_key(fields), id)
  append(batch.freed, delayed_key(fields[F_AGENT_ID]), id)
end

-- Ends a command: status, result, expiry of all its keys, indexes, event. The caller has checked the transition and
-- set code and message in `fields`. `members` as in result_json.
local function finish_command(batch, id, fields, to, retention_ms, members, output_bytes)
  local agent_id = fields[F_AGENT_ID]
  if fields[F_STATUS] == 'queued' then
    leave_queue(batch, id, fields)
  else
    append(batch.freed, assigned_key(agent_id), id)
  end
  move(batch, id, fields, to)
  fields[F_FINISHED_MS] = batch.stamp
  server.call('HSET', status_key(id), 'status', to, 'finished_ms', batch.stamp,
    'sent_ms', fields[F_SENT_MS], 'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'started_ms', fields[F_STARTED_MS])
  -- A cancel that came too late has left its own reason.
  if fields[F_CODE] ~= '' or fields[F_CANCEL_MS] ~= '' then
    server.call('HSET', status_key(id), 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  end
  -- The command is retained as long as its result, under another name: keys in the queue mean live commands.
  server.pcall('RENAME', command_key(id), ended_command_key(id))
  server.call('PEXPIRE', ended_command_key(id), retention_ms)
  batch.finish_time = batch.finish_time or rfc3339(batch.now)
  server.call('SET', result_key(id), result_json(id, fields, members, output_bytes, batch.finish_time),
    'PX', retention_ms)
  server.call('PEXPIRE', status_key(id), retention_ms)
  server.call('PEXPIRE', agent_command_key(agent_id, id), retention_ms)
  if fields[F_OUTPUT_BYTES] ~= '' then server.call('PEXPIRE', output_key(id), retention_ms) end
  unindex(batch, DEADLINES_KEY, id)
  batch.forget_at = batch.forget_at or whole(batch.now + retention_ms)
  index(batch, RETENTION_KEY, batch.forget_at, agent_id .. '/' .. id)
  announce(batch, 'finished', id, fields)
end

-- Returns an assigned command to its original place in the queue, claimable after delay_ms. Code and message in
-- `fields` give the reason.
local function release_command(batch, id, fields, delay_ms)
  append(batch.freed, assigned_key(fields[F_AGENT_ID]), id)
  move(batch, id, fields, 'queued')
  local receipts = {'assigned_ms', F_ASSIGNED_MS, 'sent_ms', F_SENT_MS,
    'acknowledged_ms', F_ACKNOWLEDGED_MS, 'started_ms', F_STARTED_MS}
  for i = 1, #receipts, 2 do fields[receipts[i + 1]] = '' end
  server.call('HSET', status_key(id), 'status', 'queued', 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  server.call('HDEL', status_key(id), 'assigned_ms', 'sent_ms', 'acknowledged_ms', 'started_ms')
  local expires = number(fields, F_EXPIRES_MS)
  if delay_ms > 0 then
    append(batch.taken, delayed_key(fields[F_AGENT_ID]), id)
    index(batch, DEADLINES_KEY, math.min(batch.now + delay_ms, expires), id)
  else
    index(batch, queue_key(fields), fields[F_RANK], id)
    index(batch, DEADLINES_KEY, expires, id)
  end
  announce(batch, 'released', id, fields)
end

-- Remembers the lease of a given-up attempt that its agent may have run, and where its output began:
-- `lease=base ` for each of the latest eight.
local function remember_given_up(id, fields)
  local known = fields[F_GIVEN_UP] .. fields[F_LEASE_ID] .. '=' .. whole(number(fields, F_OUTPUT_BASE)) .. ' '
  local _, leases = string.gsub(known, ' ', '')
  if leases > 8 then known = string.match(known, ' (.*)$') end
  fields[F_GIVEN_UP] = known
  server.call('HSET', status_key(id), 'given_up', known)
end

-- If the lease is that of a given-up attempt and no later one has started, its agent's reports still count: returns
-- where its output began, else nil.
local function base_of_given_up(fields, lease_id)
  if lease_id == '' or fields[F_STARTED_MS] ~= '' then return nil end
  local known = ' ' .. fields[F_GIVEN_UP]
  local _, last = string.find(known, ' ' .. lease_id .. '=', 1, true)
  return last and tonumber(string.match(known, '^%d+', last + 1))
end

-- Requeues or ends an assigned command that its agent did not take. Returns the new state. Deliveries that led to a
-- run do not count against `attempts`.
local function release_or_give_up(batch, id, fields, delay_ms, attempts, retention_ms)
  if fields[F_CANCEL_MS] ~= '' then
    fields[F_CODE], fields[F_MESSAGE] = 'cancelled', 'cancelled before the agent started it'
    finish_command(batch, id, fields, 'cancelled', retention_ms, '', number(fields, F_OUTPUT_BYTES))
    return 'cancelled'
  end
  if number(fields, F_ATTEMPT) - number(fields, F_RUNS) - number(fields, F_UNCOUNTED) >= attempts then
    finish_command(batch, id, fields, 'failed', retention_ms, '', number(fields, F_OUTPUT_BYTES))
    return 'failed'
  end
  remember_given_up(id, fields)
  release_command(batch, id, fields, delay_ms)
  return 'queued'
end

-- Deadline of an acknowledged command: its time limit, plus time for the agent to stop it and report.
local function run_limit(batch, fields, slack_ms)
  return batch.now + number(fields, F_TIME_LIMIT_MS) + slack_ms
end

-- Fills receipts that are still unset from milliseconds since the claim; '' if unknown. A start implies an
-- acknowledgement: a command without one may be requeued, and a started command must not be.
local function fill_receipts(fields, sent, acknowledged, started)
  if acknowledged == '' then acknowledged = started end
  local assigned = number(fields, F_ASSIGNED_MS)
  if sent ~= '' and fields[F_SENT_MS] == '' then fields[F_SENT_MS] = assigned + sent end
  if acknowledged ~= '' and fields[F_ACKNOWLEDGED_MS] == '' then
    fields[F_ACKNOWLEDGED_MS] = assigned + acknowledged
  end
  if started ~= '' and fields[F_STARTED_MS] == '' then fields[F_STARTED_MS] = assigned + started end
end

-- Whether an agent is attached and was seen recently.
local function is_present(connected, last_seen_ms, now, offline_after_ms)
  return connected == '1' and now - (tonumber(last_seen_ms) or 0) < offline_after_ms
end
