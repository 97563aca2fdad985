-- Purpose: code shared by the functions: reading a command, changing it, and collecting the writes of a batch.
-- Included once before the functions; not a function itself.
--
-- A function first reads and validates everything, then writes: Valkey has no rollback. Writes to a command's own
-- keys happen immediately; writes to shared indexes are collected in a batch and made together, one call per index.

-- `math` is not available while a library is loading.
local function floor(x) return x - x % 1 end

-- The state of the present call.
local CALL

-- Starts a call. `now` and `now_us` are Valkey's time, the only clock.
local function new_batch()
  local time = server.call('TIME')
  local now_us = time[1] * 1000000 + time[2]
  CALL = {
    now = floor(now_us / 1000), now_us = now_us,
    -- As text: passing on a number makes Lua format it with seventeen digits, which is slow.
    stamp = string.format('%d', now_us / 1000),
    strings = {}, removals = {}, additions = {}, freed = {}, taken = {}, ended = {}, events = {}, told = {},
  }
  return CALL
end

local function add(list, first, second)
  local n = #list
  list[n + 1], list[n + 2] = first, second
end

local function append(lists, key, value)
  local list = lists[key]
  if list then list[#list + 1] = value else lists[key] = {value} end
end

local function index(batch, key, score, id)
  local list = batch.additions[key]
  if list then add(list, score, id) else batch.additions[key] = {score, id} end
end

local function unindex(batch, key, id)
  append(batch.removals, key, id)
end

-- Whole numbers beyond this are not exact.
local MAX_EXACT = 2 ^ 53

-- Microseconds have 16 digits, more than Lua prints by default.
local function whole(number)
  return string.format('%d', number)
end

-- Forgets the collected writes.
local function discard(batch)
  batch.strings, batch.removals, batch.additions, batch.freed, batch.taken, batch.ended = {}, {}, {}, {}, {}, {}
end

-- Makes the collected writes to strings and indexes: removals first, so that an id can move within an index.
local function write(batch)
  if #batch.strings > 0 then server.call('MSET', unpack(batch.strings)) end
  for key, members in pairs(batch.removals) do server.call('ZREM', key, unpack(members)) end
  for key, pairs_of_score_and_id in pairs(batch.additions) do
    server.call('ZADD', key, unpack(pairs_of_score_and_id))
  end
  for key, members in pairs(batch.freed) do server.call('SREM', key, unpack(members)) end
  for key, members in pairs(batch.taken) do server.call('SADD', key, unpack(members)) end
  if #batch.ended > 0 then server.call('RPUSH', ended_key(), unpack(batch.ended)) end
  discard(batch)
end

-- Makes all collected writes and returns the position of the event entry, '' if there is none. Old entries are trimmed
-- by `trim`: 'MAXLEN' keeps `kept` entries, 'MINID' those of the last `kept` milliseconds.
local function commit(batch, replica, trim, kept)
  write(batch)
  if #batch.events == 0 then return '' end
  if trim == 'MINID' then kept = whole(batch.now - kept) end
  return server.call('XADD', events_key(), trim, '~', kept, '*', 'origin', replica, unpack(batch.events))
end

-- The refusal of a call while the keys of the shard move to another node one by one, nil otherwise. Some are here then
-- and some there: a function could fail half way, or miss what it must see. Valkey says so of a key that is nowhere.
local function refused_while_moving()
  if SHARD == '' then return nil end
  local probe = server.pcall('EXISTS', SHARD .. 'absent')
  if type(probe) == 'table' and probe.err then
    return server.error_reply('TRYAGAIN the slot of ' .. SHARD .. ' is moving to another node')
  end
end

-- Names include the version of this source, so that servers of two versions can share a Valkey during an upgrade.
-- KEYS[1] is the event stream of a shard; its prefix names the shard.
local function register_reader(name, read)
  local function call(keys, args)
    SHARD = string.sub(keys[1], 1, -#EVENTS - 1)
    return refused_while_moving() or read(args)
  end
  server.register_function{function_name = name .. '_' .. VERSION, callback = call, flags = {'no-writes'}}
end

-- Registers a function that writes. ARGV begins with the replica and how to trim events (see `commit`). Returns the
-- position of the event entry, events, what `work` returns, and repairs of records, each as its kind and the id, if
-- there were any. Events of kind `implied` are not among those returned: the caller can tell them from its request and
-- the reply.
local function register(name, work, flags, implied)
  local function call(keys, args)
    SHARD = string.sub(keys[1], 1, -#EVENTS - 1)
    local refusal = refused_while_moving()
    if refusal then return refusal end
    local batch = new_batch()
    batch.implied = implied
    local reply = work(batch, args)
    return {commit(batch, args[1], args[2], args[3]), batch.told, reply, batch.repairs}
  end
  server.register_function{function_name = name .. '_' .. VERSION, callback = call, flags = flags}
end

local function blank(fields, first, last)
  for i = first, last do
    if not fields[i] then fields[i] = '' end
  end
end

-- Fields that were not read are unset.
local UNREAD = {__index = function() return '' end}

-- Whether a later version has stored this status. It knows the indexes of such a command, we do not.
local function is_unknown(status)
  return status and status ~= '' and not TRANSITIONS[status]
end

-- Fills in what a record lacks, from indexes where they know it. `hint` is its agent if another place names that, or ''
-- otherwise.
-- Returns its fields and where the indexes have it, or nil if there is no record, its agent is not known, or a later
-- version has stored it. Notes the repair in `batch.note`. In _record.lua.
local complete_record

-- The emergency stops in force, and the one for an agent. In _stops.lua.
local read_stops, stop_of

-- Of a queued command that has lost its own.
local DEFAULT_QUEUE_TTL_MS = 86400000

-- Completes a record in the middle of a call: a change that failed there would keep its writes. Returns whether it is
-- complete now.
local function mend(id, hint)
  local batch = CALL
  if not batch.note then
    batch.repairs = {}
    batch.note = function(kind, subject) add(batch.repairs, kind, subject) end
  end
  return complete_record(batch, id, hint, DEFAULT_QUEUE_TTL_MS) ~= nil
end

-- Whether a record lacks what changes, and the events that announce them, are made of, or has no number where one must
-- be.
local function lacks_some(fields)
  return not ((fields[F_STATUS] or '') ~= '' and fields[F_AGENT_ID] and fields[F_TYPE] and tonumber(fields[F_REVISION])
    and tonumber(fields[F_ATTEMPT]) and tonumber(fields[F_QUEUED_US]) and tonumber(fields[F_PRIORITY])
    and (fields[F_STATUS] ~= 'assigned' or tonumber(fields[F_ASSIGNED_MS])))
end

-- The fields of a command that almost every change reads, in the order of FIELDS, '' if unset; nil if there is no such
-- command. Fields that few commands have follow if one of them is set, which the field `rare` says.
local function read(id)
  local fields = server.pcall('HMGET', status_key(id), unpack(FIELDS))
  -- Another program has put something else there.
  if fields.err then return nil end
  if lacks_some(fields) then
    if not mend(id, '') then return nil end
    fields = server.call('HMGET', status_key(id), unpack(FIELDS))
  end
  if fields[F_RARE] then
    local rare = server.call('HMGET', status_key(id), unpack(RARE_FIELDS))
    for i = 1, #RARE_FIELDS do fields[#FIELDS + i] = rare[i] or '' end
  end
  blank(fields, 1, #FIELDS)
  return setmetatable(fields, UNREAD)
end

-- Adds the fields that were fixed when the command was queued.
local function read_request(id, fields)
  local request = server.call('HMGET', status_key(id), unpack(REQUEST_FIELDS))
  if not (tonumber(request[1]) and tonumber(request[2]) and tonumber(request[3])) and mend(id, fields[F_AGENT_ID]) then
    request = server.call('HMGET', status_key(id), unpack(REQUEST_FIELDS))
  end
  for i = 1, #REQUEST_FIELDS do fields[F_RARE_END + i] = request[i] or '' end
end

-- Writes fields that few commands have.
local function set_rare(id, ...)
  server.call('HSET', status_key(id), 'rare', '1', ...)
end

local function number(fields, field)
  return tonumber(fields[field]) or 0
end

-- Whether a comma-separated list contains this word.
local function listed(words, word)
  return string.find(',' .. words .. ',', ',' .. word .. ',', 1, true) ~= nil
end

local KNOWN_STATES = {}

-- Whether a comma-separated list of states contains this one. Such lists are built from model/lifecycle.py: they are
-- few, so each is parsed once.
local function among(states, state)
  local known = KNOWN_STATES[states]
  if not known then
    known = {}
    for one in string.gmatch(states, '[^,]+') do known[one] = true end
    KNOWN_STATES[states] = known
  end
  return known[state]
end

-- Counts a change of a command. Every change writes the new revision and announces it.
local function revise(fields)
  local revision = string.format('%d', fields[F_REVISION] + 1)
  fields[F_REVISION] = revision
  return revision
end

-- Adds an event, as the text of a JSON object, to the entry of this call.
local function add_event(batch, subject, event, kind)
  add(batch.events, subject, event)
  if kind ~= batch.implied then add(batch.told, subject, event) end
end

-- Adds the event of a change. `changed` is what changed besides, as members of a JSON object, each preceded by a comma.
-- Names are those of the status hash; numbers are plain, an unset time is 0. Ids, types and statuses need no escaping.
local function announce_change(batch, event, id, agent_id, revision, status, attempt, changed)
  add_event(batch, id, '{"event":"' .. event .. '","revision":' .. revision .. ',"agent_id":"' .. agent_id
    .. '","status":"' .. status .. '","attempt":' .. attempt .. changed .. '}', event)
end

-- Adds the event of a change of a command that was read.
local function announce(batch, event, id, fields, changed)
  announce_change(batch, event, id, fields[F_AGENT_ID], fields[F_REVISION], fields[F_STATUS], fields[F_ATTEMPT],
    changed)
end

local function reason_members(fields)
  return ',"code":"' .. fields[F_CODE] .. '","message":' .. cjson.encode(fields[F_MESSAGE])
end

local function or_zero(text)
  return text == '' and '0' or text
end

local function receipt_members(fields)
  return ',"sent_ms":' .. or_zero(fields[F_SENT_MS]) .. ',"acknowledged_ms":' .. or_zero(fields[F_ACKNOWLEDGED_MS])
    .. ',"started_ms":' .. or_zero(fields[F_STARTED_MS])
end

local function cancel_members(fields)
  if fields[F_CANCEL_MS] == '' then return '' end
  return ',"cancel_ms":' .. fields[F_CANCEL_MS] .. ',"cancel_stage":"' .. fields[F_CANCEL_STAGE] .. '"'
end

-- All that is shown of a command, but for what `announce` adds.
local function whole_members(fields)
  local rest = receipt_members(fields)
  if fields[F_CODE] ~= '' then rest = rest .. reason_members(fields) end
  rest = rest .. cancel_members(fields)
  if fields[F_PARAMS_SUMMARY] ~= '' then
    rest = rest .. ',"params_summary":' .. cjson.encode(fields[F_PARAMS_SUMMARY])
  end
  if fields[F_REQUESTED_BY] ~= '' then
    rest = rest .. ',"requested_by":' .. cjson.encode(fields[F_REQUESTED_BY])
  end
  -- Microseconds have three digits more than milliseconds.
  return ',"type":"' .. fields[F_TYPE] .. '","priority":' .. fields[F_PRIORITY]
    .. ',"queued_ms":' .. string.sub(fields[F_QUEUED_US], 1, -4) .. ',"assigned_ms":' .. or_zero(fields[F_ASSIGNED_MS])
    .. rest
end

-- Moves a command to another state in the index of states. The only way to change a state, and only as permitted by
-- the table in model/lifecycle.py: anything else is a bug and aborts the call.
local function move_from(batch, id, from, to, queued_us)
  if not TRANSITIONS[from][to] then
    error('no operation permits the change from ' .. from .. ' to ' .. to)
  end
  unindex(batch, by_status_key(from), id)
  index(batch, by_status_key(to), queued_us, id)
end

local function move(batch, id, fields, to)
  move_from(batch, id, fields[F_STATUS], to, fields[F_QUEUED_US])
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

local MAX_ATTEMPTS = 20

-- Remembers an attempt that ends without ending the command: one line of JSON for each of the latest MAX_ATTEMPTS.
local function remember_attempt(batch, id, fields, code, message)
  local line = '[' .. fields[F_ATTEMPT] .. ',' .. or_zero(fields[F_ASSIGNED_MS]) .. ',' .. or_zero(fields[F_SENT_MS])
    .. ',' .. or_zero(fields[F_ACKNOWLEDGED_MS]) .. ',' .. or_zero(fields[F_STARTED_MS]) .. ',' .. batch.stamp
    .. ',"' .. code .. '",' .. cjson.encode(message) .. ']'
  local known = fields[F_ATTEMPTS]
  known = known == '' and line or known .. '\n' .. line
  local _, breaks = string.gsub(known, '\n', '')
  if breaks >= MAX_ATTEMPTS then known = string.match(known, '\n(.*)$') end
  fields[F_ATTEMPTS] = known
  set_rare(id, 'attempts', known)
end

-- Takes an attempt out of those remembered, and its receipts from there. Returns whether it was one.
local function recall_attempt(fields, attempt)
  local others, found = {}, nil
  for line in string.gmatch(fields[F_ATTEMPTS], '[^\n]+') do
    if string.find(line, '[' .. attempt .. ',', 1, true) == 1 then found = line else others[#others + 1] = line end
  end
  if not found then return false end
  local receipts = cjson.decode(found)
  for i, field in ipairs({F_ASSIGNED_MS, F_SENT_MS, F_ACKNOWLEDGED_MS, F_STARTED_MS}) do
    fields[field] = receipts[i + 1] ~= 0 and whole(receipts[i + 1]) or ''
  end
  fields[F_ATTEMPTS] = table.concat(others, '\n')
  return true
end

-- The number of the latest attempt; the one shown may be an earlier one that its agent went on with.
local function latest_attempt(fields)
  return fields[F_LATEST_ATTEMPT] ~= '' and fields[F_LATEST_ATTEMPT] or fields[F_ATTEMPT]
end

-- Shows a command as this attempt of it, with the times of that.
local function show_attempt(batch, id, fields, attempt)
  local latest, other = latest_attempt(fields), attempt ~= fields[F_ATTEMPT]
  if other and fields[F_STATUS] == 'assigned' then
    remember_attempt(batch, id, fields, 'duplicate', 'the agent had started attempt ' .. attempt .. ' before')
  end
  if not recall_attempt(fields, attempt) then
    if not other then return end
    fields[F_ASSIGNED_MS], fields[F_SENT_MS], fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS] = batch.stamp, '', '', ''
  end
  fields[F_ATTEMPT], fields[F_LATEST_ATTEMPT] = attempt, attempt ~= latest and latest or ''
  set_rare(id, 'attempt', attempt, 'latest_attempt', fields[F_LATEST_ATTEMPT], 'attempts', fields[F_ATTEMPTS],
    'assigned_ms', fields[F_ASSIGNED_MS], 'sent_ms', fields[F_SENT_MS], 'acknowledged_ms', fields[F_ACKNOWLEDGED_MS],
    'started_ms', fields[F_STARTED_MS])
end

local function time_json(ms)
  return ms == 0 and 'null' or '"' .. rfc3339(ms) .. '"'
end

-- The attempts before the last, in the form of attempt_document in wire/documents.py.
local function attempts_json(fields)
  if fields[F_ATTEMPTS] == '' then return '' end
  local documents = {}
  for line in string.gmatch(fields[F_ATTEMPTS], '[^\n]+') do
    local number, assigned, sent, acknowledged, started, ended, code, message = unpack(cjson.decode(line))
    local reason = code ~= '' and '{"code":"' .. code .. '","message":' .. cjson.encode(message) .. '}' or 'null'
    documents[#documents + 1] = '{"number":' .. number .. ',"agentId":"' .. fields[F_AGENT_ID]
      .. '","receipts":{"queueTime":null,"assignTime":' .. time_json(assigned) .. ',"sendTime":' .. time_json(sent)
      .. ',"acknowledgeTime":' .. time_json(acknowledged) .. ',"startTime":' .. time_json(started)
      .. ',"finishTime":' .. time_json(ended) .. '},"reason":' .. reason .. ',"started":' .. tostring(started ~= 0)
      .. '}'
  end
  return table.concat(documents, ',')
end

-- The result as JSON, in the form of result_document in wire/documents.py. `members` is the JSON text of the members
-- that only the agent knows, each followed by a comma, or '' if no agent reported a result.
local function result_json(id, fields, members, output_bytes, finish_time)
  local reason = 'null'
  if fields[F_CODE] ~= '' then
    reason = '{"code":"' .. fields[F_CODE] .. '","message":' .. cjson.encode(fields[F_MESSAGE]) .. '}'
  end
  if members == '' then members = '"exitCode":null,"data":null,' end
  return '{"commandId":"' .. id .. '","agentId":"' .. fields[F_AGENT_ID] .. '","type":"' .. fields[F_TYPE]
    .. '","status":"' .. fields[F_STATUS] .. '","attempt":' .. fields[F_ATTEMPT] .. ',"reason":' .. reason .. ','
    .. members .. '"outputBytes":' .. whole(output_bytes) .. ',"outputDroppedBytes":'
    .. or_zero(fields[F_OUTPUT_DROPPED]) .. ',"finishTime":"' .. finish_time .. '","attempts":['
    .. attempts_json(fields) .. ']}'
end

-- The principal that queued a command, as Caller.principal in identity/caller.py; nil if it is not known. `requester`
-- is the field of the record.
local function principal_of(requester)
  local kind, subject, user = string.match(requester, '^([^\t]*)\t([^\t]*)\t([^\t]*)\t')
  if not kind then return nil end
  return user ~= '' and 'user:' .. user or kind .. ':' .. subject
end

-- The index of the unfinished commands of the principal that queued a command; nil if that is not known.
local function index_of_caller(requester)
  local principal = requester ~= '' and principal_of(requester)
  return principal and caller_commands_key(principal) or nil
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

-- Ends a command: status, result, indexes, event. The caller has checked the transition and set code and message in
-- `fields`. `members` as in result_json; `cancel_stage` is that of a cancelled one, by default 'stopped'. Everything
-- but the result is deleted by `forget`, in batches.
local function finish_command(batch, id, fields, to, retention_ms, members, output_bytes, cancel_stage)
  local agent_id = fields[F_AGENT_ID]
  if fields[F_STATUS] == 'queued' then
    leave_queue(batch, id, fields)
  else
    append(batch.freed, assigned_key(agent_id), id)
  end
  local caller = index_of_caller(fields[F_REQUESTED_BY])
  if caller then append(batch.freed, caller, id) end
  move(batch, id, fields, to)
  -- A refused command was sent but not acknowledged.
  if fields[F_SENT_MS] ~= '' or fields[F_ACKNOWLEDGED_MS] ~= '' then
    server.call('HSET', status_key(id), 'status', to, 'revision', revise(fields), 'finished_ms', batch.stamp,
      'sent_ms', fields[F_SENT_MS], 'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'started_ms', fields[F_STARTED_MS])
  else
    server.call('HSET', status_key(id), 'status', to, 'revision', revise(fields), 'finished_ms', batch.stamp)
  end
  if fields[F_CANCEL_MS] ~= '' then
    fields[F_CANCEL_STAGE] = cancel_stage or 'stopped'
    set_rare(id, 'code', fields[F_CODE], 'message', fields[F_MESSAGE], 'cancel_stage', fields[F_CANCEL_STAGE])
  elseif fields[F_CODE] ~= '' or fields[F_RARE] ~= '' then
    set_rare(id, 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  end
  -- The command is retained as long as its state, under the name that its agent has it: the other names are live.
  server.pcall('RENAME', command_key(id), agent_command_key(agent_id, id))
  batch.finish_time = batch.finish_time or rfc3339(batch.now)
  server.call('SET', result_key(id), result_json(id, fields, members, output_bytes, batch.finish_time),
    'PX', retention_ms)
  unindex(batch, deadlines_key(), id)
  batch.ended[#batch.ended + 1] = id
  announce(batch, 'finished', id, fields, whole_members(fields) .. ',"finished_ms":' .. batch.stamp)
end

-- Ends a queued command of which only the state is left: another program has deleted it.
local function end_without_command(batch, id, fields, retention_ms)
  -- Not to be taken for the command, which is retained under this name.
  server.call('DEL', agent_command_key(fields[F_AGENT_ID], id))
  fields[F_CODE], fields[F_MESSAGE] = 'command_lost', 'Valkey no longer has the command, only its state'
  finish_command(batch, id, fields, 'failed', retention_ms, '', number(fields, F_OUTPUT_BYTES))
end

-- Returns an assigned command to its original place in the queue, claimable after delay_ms. Code and message in
-- `fields` give the reason.
local function release_command(batch, id, fields, delay_ms)
  append(batch.freed, assigned_key(fields[F_AGENT_ID]), id)
  remember_attempt(batch, id, fields, fields[F_CODE], fields[F_MESSAGE])
  if fields[F_LATEST_ATTEMPT] ~= '' then
    fields[F_ATTEMPT], fields[F_LATEST_ATTEMPT] = fields[F_LATEST_ATTEMPT], ''
    set_rare(id, 'attempt', fields[F_ATTEMPT], 'latest_attempt', '')
  end
  move(batch, id, fields, 'queued')
  fields[F_ASSIGNED_MS], fields[F_SENT_MS], fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS] = '', '', '', ''
  fields[F_EXTENDED_MS] = ''
  set_rare(id, 'status', 'queued', 'revision', revise(fields), 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  server.call('HDEL', status_key(id), 'assigned_ms', 'sent_ms', 'acknowledged_ms', 'started_ms',
    'extended_ms')
  read_request(id, fields)
  if delay_ms > 0 then
    append(batch.taken, delayed_key(fields[F_AGENT_ID]), id)
    index(batch, deadlines_key(), math.min(batch.now + delay_ms, number(fields, F_EXPIRES_MS)), id)
  else
    index(batch, queue_key(fields), fields[F_RANK], id)
    index(batch, deadlines_key(), fields[F_EXPIRES_MS], id)
  end
  announce(batch, 'released', id, fields, ',"assigned_ms":0' .. receipt_members(fields) .. reason_members(fields))
end

-- What an agent remembers commands by: its journal, or else its process.
local function record_of(journal_id, instance_id)
  return journal_id and journal_id ~= '' and 'journal ' .. journal_id or 'instance ' .. (instance_id or '')
end

-- How many changes of an agent's record are remembered. Of what is older, no proof is left.
local RECORD_CHANGES = 64

-- Adds to `changes`, the epochs of the sessions in which an agent came with another record than in the one before.
local function note_record_change(changes, epoch)
  local _, kept = string.gsub(changes, ' ', '')
  if kept >= RECORD_CHANGES then changes = string.match(changes, ' (.*)$') end
  return changes .. whole(epoch) .. ' '
end

-- Whether an attempt that was given up under the session of an epoch may have started: 'open' while its agent has not
-- attached since; 'none' if the agent attached next with its record, as it did not list the command; else 'lost'.
-- `changes` is as in `note_record_change`.
local function word_of_next_session(given_up_epoch, epoch, changes)
  local following = given_up_epoch + 1
  if epoch < following then return 'open' end
  local kept, oldest = 0, nil
  for change in string.gmatch(changes, '%d+') do
    kept, oldest = kept + 1, oldest or tonumber(change)
    if tonumber(change) == following then return 'lost' end
  end
  return kept >= RECORD_CHANGES and following < oldest and 'lost' or 'none'
end

-- The same of a command: 'none' also if it has no such attempt, or its agent said that nothing of it runs. What has
-- been proven stays proven, whatever its agent loses later.
local function given_up_state(fields)
  if fields[F_GIVEN_UP] == '' or fields[F_GIVEN_UP_BY] == '' then return 'none' end
  local session = server.call('HMGET', session_key(fields[F_AGENT_ID]), 'epoch', 'record_changes', 'history_ms')
  if not session[1] then return 'open' end
  local epoch, history = string.match(fields[F_GIVEN_UP_BY], '^(%d+) (%d*)$')
  -- Its sessions of that time have been forgotten.
  if history ~= (session[3] or '') then return 'lost' end
  return word_of_next_session(tonumber(epoch), tonumber(session[1]), session[2] or '')
end

-- Remembers the lease of a given-up attempt that its agent may have run, where its output began, and its number:
-- `lease=base:attempt ` for each of the latest eight. Remembers the session as well: its epoch, and when epochs began.
-- A program that the agent started ends by `doubt_until`.
local function remember_given_up(batch, id, fields, slack_ms)
  local known = given_up_state(fields) == 'none' and '' or fields[F_GIVEN_UP]
  known = known .. fields[F_LEASE_ID] .. '=' .. whole(number(fields, F_OUTPUT_BASE)) .. ':' .. fields[F_ATTEMPT] .. ' '
  local _, leases = string.gsub(known, ' ', '')
  if leases > 8 then known = string.match(known, ' (.*)$') end
  read_request(id, fields)
  fields[F_GIVEN_UP] = known
  local session = server.call('HMGET', session_key(fields[F_AGENT_ID]), 'epoch', 'history_ms')
  fields[F_GIVEN_UP_BY] = (session[1] or '0') .. ' ' .. (session[2] or '')
  fields[F_DOUBT_UNTIL] = whole(batch.now + number(fields, F_TIME_LIMIT_MS) + slack_ms)
  set_rare(id, 'given_up', known, 'given_up_by', fields[F_GIVEN_UP_BY], 'doubt_until', fields[F_DOUBT_UNTIL])
end

-- The agent has said that nothing runs under attempts that were given up. A result that it may have of them still
-- counts.
local function clear_given_up(id, fields)
  if fields[F_GIVEN_UP_BY] == '' then return end
  fields[F_GIVEN_UP_BY] = ''
  set_rare(id, 'given_up_by', '')
end

-- Forgets one given-up lease. Returns whether it was one.
local function forget_lease(id, fields, lease_id)
  if lease_id == '' then return false end
  local known = ' ' .. fields[F_GIVEN_UP]
  local first, last = string.find(known, ' ' .. lease_id .. '=', 1, true)
  if not first then return false end
  local _, stop = string.find(known, ' ', last, true)
  fields[F_GIVEN_UP] = string.sub(known, 2, first) .. string.sub(known, stop + 1)
  set_rare(id, 'given_up', fields[F_GIVEN_UP])
  return true
end

-- If the lease is that of a given-up attempt and no later one has started, its agent's reports still count: returns
-- where its output began, and its number; else nil.
local function base_of_given_up(fields, lease_id)
  if lease_id == '' or fields[F_STARTED_MS] ~= '' then return nil end
  local known = ' ' .. fields[F_GIVEN_UP]
  local _, last = string.find(known, ' ' .. lease_id .. '=', 1, true)
  if not last then return nil end
  local base, attempt = string.match(known, '^(%d+):(%d+)', last + 1)
  return tonumber(base), attempt
end

-- Ends a command that its agent may have run, as the agent was not heard in time or has lost its record.
local function lose(batch, id, fields, to, reason, retention_ms)
  fields[F_CODE], fields[F_MESSAGE] = reason.code, reason.message
  finish_command(batch, id, fields, to, retention_ms, '', number(fields, F_OUTPUT_BYTES), 'unconfirmed')
  return to
end

local RECORD_LOST = {
  code = 'outcome_unknown', message = 'the agent came back without its record; it may have run in part or in full',
}

local function not_heard(fields)
  return {
    code = 'agent_lost',
    message = 'no word came from the agent since attempt ' .. fields[F_ATTEMPT]
      .. ' was sent; whether it ran is not known',
  }
end

-- A longer time without a server that looks at deadlines is a gap.
local GAP_MS = 5000

-- When the latest gap ended; 0 if there was none.
local function gap_ended(batch)
  if not batch.gap_ended then
    local known = server.call('HMGET', due_passes_key(), 'last_ms', 'gap_ended_ms')
    batch.last_look = tonumber(known[1])
    local is_gap = batch.last_look and batch.now - batch.last_look > GAP_MS
    batch.gap_ended = is_gap and batch.now or tonumber(known[2]) or 0
  end
  return batch.gap_ended
end

-- Until when an agent that was not heard since a gap may come back before deadlines that passed are acted on; 0 if it
-- was heard.
local function back_by(batch, last_seen_ms, offline_after_ms)
  local ended = gap_ended(batch)
  if (tonumber(last_seen_ms) or 0) >= ended then return 0 end
  return ended + (tonumber(offline_after_ms) or 0)
end

-- When a command is no longer in doubt, unless its agent is heard: then it can no longer run, as its time limit has
-- passed or its agent has reached no server for so long that it has stopped it; and its agent has had time to come back
-- after a gap.
local function doubt_end(batch, fields)
  local seen, offline_after, orphaned_after = unpack(server.call('HMGET', session_key(fields[F_AGENT_ID]),
    'last_seen_ms', 'offline_after_ms', 'orphaned_after_ms'))
  local last = number(fields, F_DOUBT_UNTIL)
  seen, orphaned_after = tonumber(seen), tonumber(orphaned_after)
  if seen and orphaned_after then last = math.min(last, seen + orphaned_after) end
  return math.max(last, back_by(batch, seen, offline_after))
end

-- Shows that a command is in doubt.
local function announce_doubt(batch, id, fields)
  fields[F_CODE] = 'unconfirmed'
  fields[F_MESSAGE] = 'attempt ' .. fields[F_ATTEMPT] .. ' was sent and not acknowledged; whether it runs is not known'
  if fields[F_CANCEL_MS] ~= '' then fields[F_CANCEL_STAGE] = 'unconfirmed' end
  set_rare(id, 'status', 'assigned', 'revision', revise(fields), 'assigned_ms', fields[F_ASSIGNED_MS],
    'code', 'unconfirmed', 'message', fields[F_MESSAGE], 'cancel_stage', fields[F_CANCEL_STAGE])
  announce(batch, 'unconfirmed', id, fields, ',"assigned_ms":' .. fields[F_ASSIGNED_MS] .. receipt_members(fields)
    .. reason_members(fields) .. cancel_members(fields))
end

-- A command is to end while an attempt that was given up may have started: it waits for word from its agent, at most
-- until `doubt_end`. Returns the new state.
local function doubt(batch, id, fields, retention_ms)
  local last = doubt_end(batch, fields)
  if last <= batch.now then return lose(batch, id, fields, 'timeout', not_heard(fields), retention_ms) end
  if fields[F_STATUS] == 'queued' then
    leave_queue(batch, id, fields)
    append(batch.taken, assigned_key(fields[F_AGENT_ID]), id)
    move(batch, id, fields, 'assigned')
    fields[F_ASSIGNED_MS] = batch.stamp
    show_attempt(batch, id, fields, fields[F_ATTEMPT])
  end
  index(batch, deadlines_key(), whole(last), id)
  announce_doubt(batch, id, fields)
  return 'assigned'
end

-- Whether a command waits for word from its agent: every lease that its agent may hold is then among the given-up.
local function in_doubt(fields)
  return fields[F_CODE] == 'unconfirmed' and fields[F_STATUS] == 'assigned'
end

-- The agent was heard of a command in doubt: it goes on, as if there had been none. Which processes could not be
-- stopped is still true. Returns the members of the change.
local function settle_doubt(id, fields)
  if fields[F_CANCEL_STAGE] == 'could_not_stop' then return reason_members(fields) .. cancel_members(fields) end
  fields[F_CODE], fields[F_MESSAGE] = '', ''
  if fields[F_CANCEL_MS] ~= '' then
    fields[F_CODE], fields[F_MESSAGE] = 'cancel_requested', fields[F_CANCEL_MESSAGE]
    if fields[F_CANCEL_STAGE] == 'unconfirmed' then fields[F_CANCEL_STAGE] = 'requested' end
  end
  set_rare(id, 'code', fields[F_CODE], 'message', fields[F_MESSAGE], 'cancel_stage', fields[F_CANCEL_STAGE])
  return reason_members(fields) .. cancel_members(fields)
end

-- A command goes on under the lease of an attempt that was given up, and is shown as that. Returns whether it is one.
local function goes_on_under(batch, id, fields, lease_id)
  if fields[F_LEASE_ID] == lease_id then
    show_attempt(batch, id, fields, fields[F_ATTEMPT])
    return true
  end
  local base, attempt = base_of_given_up(fields, lease_id)
  if not base then return false end
  show_attempt(batch, id, fields, attempt)
  fields[F_LEASE_ID], fields[F_OUTPUT_BASE] = lease_id, base
  set_rare(id, 'lease_id', lease_id, 'output_base', whole(base))
  return true
end

-- Notes that a cancel is wanted of a command that its agent may have. `code` is the reason code that it ends with, ''
-- for that of any cancel.
local function request_cancel(batch, id, fields, message, code)
  fields[F_CANCEL_MS], fields[F_CANCEL_MESSAGE], fields[F_CANCEL_STAGE] = batch.stamp, message, 'requested'
  fields[F_CODE], fields[F_MESSAGE] = 'cancel_requested', message
  set_rare(id, 'revision', revise(fields), 'cancel_ms', batch.stamp, 'cancel_message', message,
    'cancel_stage', 'requested', 'code', 'cancel_requested', 'message', message)
  if code ~= '' then
    fields[F_CANCEL_CODE] = code
    set_rare(id, 'cancel_code', code)
  end
  announce(batch, 'cancel_requested', id, fields, cancel_members(fields) .. reason_members(fields))
end

-- Ends a cancelled command of which nothing runs. The message is that of the caller who cancelled.
local function end_cancelled(batch, id, fields, retention_ms)
  fields[F_CODE], fields[F_MESSAGE] = fields[F_CANCEL_CODE], fields[F_CANCEL_MESSAGE]
  if fields[F_CODE] == '' then fields[F_CODE] = 'cancelled' end
  finish_command(batch, id, fields, 'cancelled', retention_ms, '', number(fields, F_OUTPUT_BYTES))
  return 'cancelled'
end

local function seconds(ms)
  return string.format(ms < 100000 and '%.3g s' or '%.0f s', ms / 1000)
end

-- Ends a command that has waited in the queue for as long as it may. `known` is as in given_up_state. Returns the new
-- state.
local function expire(batch, id, fields, retention_ms, known)
  if known == 'lost' then return lose(batch, id, fields, 'failed', RECORD_LOST, retention_ms) end
  if known == 'open' then return doubt(batch, id, fields, retention_ms) end
  fields[F_CODE] = 'expired'
  fields[F_MESSAGE] = 'waited ' .. seconds(batch.now - floor(fields[F_QUEUED_US] / 1000)) .. ' in the queue, its limit'
  finish_command(batch, id, fields, 'timeout', retention_ms, '', number(fields, F_OUTPUT_BYTES))
  return 'timeout'
end

-- Requeues or ends an assigned command that its agent did not take, for the reason given. Returns the new state.
-- `policy` has attempts, retention_ms and slack_ms; deliveries that led to a run do not count against the attempts.
-- `word` is what is known of this attempt: 'refused' if the agent has said that nothing of the command runs, 'absent'
-- if it attaches without the command, 'unsent' if its stream never carried this attempt, '' if it may have the command.
local function release_or_give_up(batch, id, fields, reason, delay_ms, policy, word)
  if word == 'refused' then
    clear_given_up(id, fields)
  elseif word ~= 'unsent' then
    remember_given_up(batch, id, fields, policy.slack_ms)
  end
  local known = word == 'absent' and 'none' or given_up_state(fields)
  local deliveries = tonumber(latest_attempt(fields)) - number(fields, F_RUNS) - number(fields, F_UNCOUNTED)
  local exhausted = deliveries >= policy.attempts
  if fields[F_CANCEL_MS] ~= '' or exhausted then
    if known == 'lost' then return lose(batch, id, fields, 'failed', RECORD_LOST, policy.retention_ms) end
    if known == 'open' then return doubt(batch, id, fields, policy.retention_ms) end
    if fields[F_CANCEL_MS] ~= '' then return end_cancelled(batch, id, fields, policy.retention_ms) end
  end
  fields[F_CODE], fields[F_MESSAGE] = reason.code, reason.message
  if exhausted then
    finish_command(batch, id, fields, 'failed', policy.retention_ms, '', number(fields, F_OUTPUT_BYTES))
    return 'failed'
  end
  read_request(id, fields)
  if number(fields, F_EXPIRES_MS) <= batch.now then return expire(batch, id, fields, policy.retention_ms, known) end
  release_command(batch, id, fields, delay_ms)
  return 'queued'
end

-- Whether the run under this lease has been counted.
local function is_counted(fields, lease_id)
  return lease_id ~= '' and string.find(' ' .. fields[F_COUNTED_LEASE] .. ' ', ' ' .. lease_id .. ' ', 1, true) ~= nil
end

-- The time limit of a command whose request was read, including the extension of its present run.
local function time_limit(fields)
  return number(fields, fields[F_EXTENDED_MS] ~= '' and F_EXTENDED_MS or F_TIME_LIMIT_MS)
end

-- Deadline of an acknowledged command: its time limit, plus time for the agent to stop it and report.
local function run_limit(batch, id, fields, slack_ms)
  read_request(id, fields)
  return batch.now + time_limit(fields) + slack_ms
end

-- Fills receipts that are still unset from milliseconds since the claim; '' if unknown. A start implies an
-- acknowledgement: a command without one may be requeued, and a started command must not be.
local function fill_receipts(fields, sent, acknowledged, started)
  if acknowledged == '' then acknowledged = started end
  local assigned = number(fields, F_ASSIGNED_MS)
  if sent ~= '' and fields[F_SENT_MS] == '' then fields[F_SENT_MS] = whole(assigned + sent) end
  if acknowledged ~= '' and fields[F_ACKNOWLEDGED_MS] == '' then
    fields[F_ACKNOWLEDGED_MS] = whole(assigned + acknowledged)
  end
  if started ~= '' and fields[F_STARTED_MS] == '' then fields[F_STARTED_MS] = whole(assigned + started) end
end

-- Fills receipts of an attempt that its agent has started, at a time that is not known.
local function fill_start(batch, fields)
  if fields[F_ACKNOWLEDGED_MS] == '' then fields[F_ACKNOWLEDGED_MS] = batch.stamp end
  if fields[F_STARTED_MS] == '' then fields[F_STARTED_MS] = batch.stamp end
end

-- Whether an agent is attached and was seen recently.
local function is_present(connected, last_seen_ms, now, offline_after_ms)
  return connected == '1' and now - (tonumber(last_seen_ms) or 0) < offline_after_ms
end

-- Adds an event about an agent's session.
local function announce_agent(batch, agent_id, epoch, revision, connected)
  add_event(batch, agent_id, '{"event":"agent","agent_id":"' .. agent_id .. '","epoch":' .. epoch .. ',"revision":'
    .. revision .. ',"connected":' .. connected .. '}', 'agent')
end

-- OUTPUT has two elements for each piece of output: a head, `end stream received_ms[ plain size if the data is gzip]`,
-- and the data. `end` is the offset after its last byte. So a search reads no data. Pieces are counted from 0.
local function head_of_output(key, place)
  return server.call('LINDEX', key, 2 * place)
end

-- The offset after the last byte of a stored piece; 0 if another program has put it there.
local function output_end(key, place)
  return tonumber(string.match(head_of_output(key, place), '^%d+') or 0)
end

-- The place of the first piece between `low` and `high` that ends beyond an offset; `high` if none before it does.
local function first_output_beyond(key, low, high, offset)
  while low < high do
    local middle = floor((low + high) / 2)
    if output_end(key, middle) > offset then high = middle else low = middle + 1 end
  end
  return low
end

-- The reply to a command; nil if it failed, as on a key of another type.
local function ask(...)
  local reply = server.pcall(...)
  if type(reply) == 'table' and reply.err then return nil end
  return reply
end

-- Adds an entry to the list of revocations; returns it as JSON. Every reader of the list notices the new version.
local function note_revocation(batch, kind, subject, entry)
  entry.revoked_ms = batch.stamp
  local text = cjson.encode(entry)
  server.call('HSET', revocations_key(), kind .. ':' .. subject, text)
  server.call('INCR', revocations_version_key())
  return text
end

-- Revokes what an agent had up to a generation, as it has enrolled again.
local function note_replaced(batch, agent_id, generation)
  local entry = {generation = whole(generation), revoked_by = '', reason = 'enrolled again'}
  note_revocation(batch, 'agent', agent_id, entry)
end
