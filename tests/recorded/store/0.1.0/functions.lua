#!lua name=distributor_f12be338
local VERSION = 'f12be338'
local SHARD = ''
local EVENTS = 'events'
local function named(command_id)
  if string.sub(command_id, 1, #SHARD) == SHARD then return command_id end
  return SHARD .. '.' .. command_id
end
local function command_key(command_id) return 'command:queue:' .. named(command_id) end
local function status_key(command_id) return 'command:status:' .. named(command_id) end
local function agent_command_key(agent_id, command_id) return 'agent:' .. agent_id .. ':command:list:' .. named(command_id) end
local function result_key(command_id) return 'cmd:result:' .. named(command_id) end
local function ready_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':ready' end
local function control_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':control' end
local function delayed_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':delayed' end
local function assigned_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':assigned' end
local function caller_commands_key(principal) return SHARD .. 'caller:' .. principal .. ':commands' end
local function session_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':session' end
local function by_status_key(status) return SHARD .. 'commands:status:' .. status end
local function deadlines_key() return SHARD .. 'commands:deadlines' end
local function due_passes_key() return SHARD .. 'commands:due' end
local function ended_key() return SHARD .. 'commands:ended' end
local function revocations_key() return SHARD .. 'revocations' end
local function revocations_version_key() return SHARD .. 'revocations:version' end
local function events_key() return SHARD .. 'events' end
local FIELDS = {'status', 'revision', 'agent_id', 'type', 'lease_id', 'attempt', 'queued_us', 'assigned_ms', 'sent_ms', 'acknowledged_ms', 'started_ms', 'rare', 'priority', 'params_summary', 'requested_by'}
local RARE_FIELDS = {'cancel_ms', 'code', 'message', 'runs', 'counted_lease', 'uncounted', 'output_bytes', 'output_base', 'output_dropped', 'attempts', 'latest_attempt', 'given_up', 'given_up_by', 'doubt_until', 'cancel_message', 'cancel_stage', 'instance_id', 'slots', 'extended_ms', 'cancel_code'}
local REQUEST_FIELDS = {'expires_ms', 'rank', 'time_limit_ms', 'max_runs'}
local ROW_FIELDS = {'agent_id', 'type', 'priority', 'status', 'attempt', 'queued_ms', 'assigned_ms', 'sent_ms', 'acknowledged_ms', 'started_ms', 'finished_ms', 'cancel_ms', 'revision', 'params_summary', 'code', 'message', 'cancel_stage', 'requested_by'}
local OUTPUT_WINDOW = 262144
local F_RARE_END = 35
local CONTROL_TYPES = {['PING'] = true, ['STOP'] = true}
local INSTANCE_TYPES = {['STOP'] = true}
local FINAL = {['cancelled'] = true, ['completed'] = true, ['failed'] = true, ['timeout'] = true}
local NAMES_OF_A_COMMAND = {{'command', '^command:queue:([^:]+)$'}, {'status', '^command:status:([^:]+)$'}, {'agent_command', '^agent:([^:]+):command:list:([^:]+)$'}, {'result', '^cmd:result:([^:]+)$'}, {'late_result', '^cmd:late:([^:]+)$'}, {'output', '^command:output:([^:]+)$'}}
local NAMES_OF_A_SHARD = {{'ready', '^agent:([^:]+):ready$'}, {'control', '^agent:([^:]+):control$'}, {'delayed', '^agent:([^:]+):delayed$'}, {'assigned', '^agent:([^:]+):assigned$'}, {'agent_commands', '^agent:([^:]+):commands$'}, {'caller_commands', '^caller:(.+):commands$'}, {'session', '^agent:([^:]+):session$'}}
local F_STATUS = 1
local F_REVISION = 2
local F_AGENT_ID = 3
local F_TYPE = 4
local F_LEASE_ID = 5
local F_ATTEMPT = 6
local F_QUEUED_US = 7
local F_ASSIGNED_MS = 8
local F_SENT_MS = 9
local F_ACKNOWLEDGED_MS = 10
local F_STARTED_MS = 11
local F_RARE = 12
local F_PRIORITY = 13
local F_PARAMS_SUMMARY = 14
local F_REQUESTED_BY = 15
local F_CANCEL_MS = 16
local F_CODE = 17
local F_MESSAGE = 18
local F_RUNS = 19
local F_COUNTED_LEASE = 20
local F_UNCOUNTED = 21
local F_OUTPUT_BYTES = 22
local F_OUTPUT_BASE = 23
local F_OUTPUT_DROPPED = 24
local F_ATTEMPTS = 25
local F_LATEST_ATTEMPT = 26
local F_GIVEN_UP = 27
local F_GIVEN_UP_BY = 28
local F_DOUBT_UNTIL = 29
local F_CANCEL_MESSAGE = 30
local F_CANCEL_STAGE = 31
local F_INSTANCE_ID = 32
local F_SLOTS = 33
local F_EXTENDED_MS = 34
local F_CANCEL_CODE = 35
local F_EXPIRES_MS = 36
local F_RANK = 37
local F_TIME_LIMIT_MS = 38
local F_MAX_RUNS = 39
local ROW_AGENT_ID = 1
local ROW_TYPE = 2
local ROW_STATUS = 4
local ROW_STARTED_MS = 10

local TRANSITIONS = {queued = {queued = true, assigned = true, completed = true, failed = true, timeout = true, cancelled = true}, assigned = {queued = true, assigned = true, completed = true, failed = true, timeout = true, cancelled = true}, completed = {}, failed = {}, timeout = {}, cancelled = {}}

local CANCEL_STAGES = {requested = {delivered = true, stopping = true, could_not_stop = true, unconfirmed = true, stopped = true}, delivered = {stopping = true, could_not_stop = true, unconfirmed = true, stopped = true}, stopping = {could_not_stop = true, unconfirmed = true, stopped = true}, could_not_stop = {unconfirmed = true, stopped = true}, unconfirmed = {requested = true, stopping = true, could_not_stop = true, unconfirmed = true, stopped = true}, stopped = {}}

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

do
local function agent_commands_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':commands' end
-- Purpose: make records complete, whatever another program has deleted of them.
-- Included between the shared code and the functions; not a function itself. It defines `complete_record`.

local DEFAULT_PRIORITY, DEFAULT_TIME_LIMIT_MS = '50', '300000'

-- All fields of a record, '' if unset.
local function read_whole(id)
  local fields = server.call('HMGET', status_key(id), unpack(FIELDS))
  local rare = server.call('HMGET', status_key(id), unpack(RARE_FIELDS))
  for i = 1, #RARE_FIELDS do fields[#FIELDS + i] = rare[i] end
  local request = server.call('HMGET', status_key(id), unpack(REQUEST_FIELDS))
  for i = 1, #REQUEST_FIELDS do fields[F_RARE_END + i] = request[i] end
  blank(fields, 1, F_RARE_END + #REQUEST_FIELDS)
  return fields
end

-- Where the indexes have a command: scores, and whether sets have it.
local function find(id, fields)
  local agent_id = fields[F_AGENT_ID]
  local found = {by_status = {}}
  for status in pairs(TRANSITIONS) do
    found.by_status[status] = server.call('ZSCORE', by_status_key(status), id)
  end
  found.deadline = server.call('ZSCORE', deadlines_key(), id)
  found.ready = server.call('ZSCORE', ready_key(agent_id), id)
  found.control = server.call('ZSCORE', control_key(agent_id), id)
  found.commands = server.call('ZSCORE', agent_commands_key(agent_id), id)
  found.delayed = server.call('SISMEMBER', delayed_key(agent_id), id) == 1
  found.assigned = server.call('SISMEMBER', assigned_key(agent_id), id) == 1
  local caller = index_of_caller(fields[F_REQUESTED_BY])
  found.caller = caller and server.call('SISMEMBER', caller, id) == 1
  return found
end

-- The status of a record that has lost it: that of the only index that has it, or else what the agent's indexes say.
local function lost_status(id, fields, found)
  local only, count = nil, 0
  for status, score in pairs(found.by_status) do
    if score then only, count = status, count + 1 end
  end
  if count == 1 then return only end
  local result = server.call('GET', result_key(id))
  local status = result and string.match(result, '"status":"(%l+)"')
  if status and FINAL[status] then return status end
  if found.ready or found.control or found.delayed then return 'queued' end
  return (found.assigned or fields[F_LEASE_ID] ~= '') and 'assigned' or 'queued'
end

local function has_rare(fields)
  for i = #FIELDS + 1, F_RARE_END do
    if fields[i] ~= '' then return true end
  end
  return false
end

-- The number of the latest attempt that has ended without ending the command; 0 if there is none.
local function ended_attempts(fields)
  return tonumber(string.match('\n' .. fields[F_ATTEMPTS], '.*\n%[(%d+),')) or 0
end

-- Fills in what a record lacks, from indexes where they know it.
local function complete(batch, id, fields, found, queue_ttl_ms)
  local missing = {}
  local function fill(name, field, value)
    if not tonumber(fields[field]) then
      fields[field] = tostring(value)
      add(missing, name, fields[field])
    end
  end
  if fields[F_STATUS] == '' then
    fields[F_STATUS] = lost_status(id, fields, found)
    add(missing, 'status', fields[F_STATUS])
  end
  if fields[F_TYPE] == '' then
    fields[F_TYPE] = found.control and 'PING' or 'UNKNOWN'
    add(missing, 'type', fields[F_TYPE])
  end
  local status = fields[F_STATUS]
  local arrival = found.commands or found.by_status[status] or whole(batch.now_us)
  fill('queued_us', F_QUEUED_US, whole(arrival))
  -- Greater than any that a reader can have seen.
  fill('revision', F_REVISION, batch.stamp)
  local ended = ended_attempts(fields)
  fill('attempt', F_ATTEMPT, status == 'queued' and ended or ended + 1)
  fill('priority', F_PRIORITY, DEFAULT_PRIORITY)
  fill('time_limit_ms', F_TIME_LIMIT_MS, DEFAULT_TIME_LIMIT_MS)
  fill('rank', F_RANK, whole(found.ready or found.control or fields[F_QUEUED_US]))
  fill('expires_ms', F_EXPIRES_MS, whole(batch.now + queue_ttl_ms))
  if status == 'assigned' then fill('assigned_ms', F_ASSIGNED_MS, batch.stamp) end
  local times = server.call('HMGET', status_key(id), 'queued_ms', 'finished_ms')
  if not times[1] then add(missing, 'queued_ms', string.sub(fields[F_QUEUED_US], 1, -4)) end
  if FINAL[status] and not times[2] then add(missing, 'finished_ms', batch.stamp) end
  if fields[F_RARE] == '' and has_rare(fields) then add(missing, 'rare', '1') end
  if #missing > 0 then
    server.call('HSET', status_key(id), unpack(missing))
    batch.note('record_incomplete', id)
  end
end

function complete_record(batch, id, hint, queue_ttl_ms)
  if server.call('EXISTS', status_key(id)) == 0 then return nil end
  local fields = read_whole(id)
  if is_unknown(fields[F_STATUS]) then return nil end
  if fields[F_AGENT_ID] == '' then
    if hint == '' then return nil end
    fields[F_AGENT_ID] = hint
    server.call('HSET', status_key(id), 'agent_id', hint)
    batch.note('record_incomplete', id)
  end
  local found = find(id, fields)
  complete(batch, id, fields, found, queue_ttl_ms)
  return fields, found
end

end

do
local function stops_key() return SHARD .. 'stops' end
-- Purpose: find the emergency stop that is in force for an agent.
-- Included between the shared code and the functions; not a function itself. It defines `stop_of` and `read_stops`.
--
-- STOPS exists only while a stop is in force, so that one EXISTS per call finds that none is. Selectors match as in
-- model/stop_scope.py. A stop that cannot be read, as a later version or another program wrote it, is for all agents.

-- Whether a text fits a pattern in which `*` stands for any characters.
local function matches_wildcards(pattern, text)
  local parts = {}
  for part in string.gmatch(pattern .. '*', '([^*]*)%*') do parts[#parts + 1] = part end
  local head, tail = parts[1], parts[#parts]
  if #parts == 1 then return text == head end
  if #text < #head + #tail or string.sub(text, 1, #head) ~= head or string.sub(text, -#tail, -1) ~= tail and tail ~= ''
  then
    return false
  end
  local at, last = #head + 1, #text - #tail
  for i = 2, #parts - 1 do
    if parts[i] ~= '' then
      local first, found = string.find(text, parts[i], at, true)
      if not first or found > last then return false end
      at = found + 1
    end
  end
  return true
end

local function parse(id, text)
  local parsed, stop = pcall(cjson.decode, text)
  local known = parsed and type(stop) == 'table' and type(stop.scope) == 'table' and tonumber(stop.since_ms)
    and (stop.scope.all == true or type(stop.scope.selectors) == 'table')
  if not known then stop = {since_ms = 0, scope = {all = true}} end
  stop.id, stop.text = id, text
  return stop
end

-- The stops in force, the latest first; read once per call.
read_stops = function()
  local stops = CALL.stops
  if stops then return stops end
  stops = {}
  CALL.stops = stops
  if server.call('EXISTS', stops_key()) == 0 then return stops end
  local found = server.call('HGETALL', stops_key())
  for i = 1, #found, 2 do stops[#stops + 1] = parse(found[i], found[i + 1]) end
  table.sort(stops, function(one, other)
    if one.since_ms ~= other.since_ms then return one.since_ms > other.since_ms end
    return one.id > other.id
  end)
  return stops
end

local function labels_of(agent_id)
  local parsed, labels = pcall(cjson.decode, server.call('HGET', session_key(agent_id), 'labels') or '{}')
  return parsed and type(labels) == 'table' and labels or {}
end

-- The latest stop in force for an agent, or nil. `labels` are those of its session as JSON, nil to read them if needed.
stop_of = function(agent_id, labels)
  local stops = read_stops()
  if #stops == 0 then return nil end
  local known
  for _, stop in ipairs(stops) do
    if stop.scope.all then return stop end
    for _, selector in ipairs(stop.scope.selectors) do
      local label, value = string.match(selector, '^([^=]*)=(.*)$')
      if not label then
        if matches_wildcards(selector, agent_id) then return stop end
      else
        known = known or (labels and cjson.decode(labels)) or labels_of(agent_id)
        if known[label] and matches_wildcards(value, known[label]) then return stop end
      end
    end
  end
  return nil
end

end

do
local function output_key(command_id) return 'command:output:' .. named(command_id) end
-- Purpose: store output of running commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, maximum bytes kept of one command, maximum pieces kept of one
--          command, sources of finish, sources of settle;
--          then for each piece: id, agent_id, lease id, stream ('1' stdout, '2' stderr), offset, data,
--          plain size of data if it is gzip or ''
-- Returns  for each piece: the offset up to which the agent may discard output; or -1 if the command is alive under
--          another lease, -2 if it has ended, -3 if it is unknown or another agent's
-- Invariants: no byte is stored twice, except that gzip is stored whole: readers skip what they have; the oldest pieces
--          are dropped first, and OUTPUT then begins after them; the latest is always kept; a piece that ends beyond
--          what can be counted over all attempts is dropped, and may be discarded. Output of a given-up attempt counts
--          until a later one starts, which then begins after it.

local HEADER, ITEM = 7, 7

-- Where the output of a given-up attempt begins; nil if it does not count, as another lease has begun since.
local function begin_of_given_up(id, args, i)
  local fields, lease_id = read(id), args[i + 2]
  if not among(args[7], fields[F_STATUS]) or is_counted(fields, lease_id) then return nil end
  local stored = number(fields, F_OUTPUT_BYTES)
  -- Output proves a start that is not recorded yet.
  if among(args[6], fields[F_STATUS]) and stored > number(fields, F_OUTPUT_BASE) then return nil end
  local base = base_of_given_up(fields, lease_id)
  -- Its session does not check it: no more may be missing than its agent can have held back.
  return base and base + args[i + 4] <= stored + OUTPUT_WINDOW and base or nil
end

-- Drops the oldest pieces beyond the limits. Returns where the kept output begins, nil if all of it is kept.
local function trim(key, count, last, max_bytes, max_pieces)
  local keep_after = last - max_bytes
  if keep_after <= 0 and count <= max_pieces then return nil end
  local low, step = math.max(0, count - max_pieces), 1
  if keep_after > 0 then
    -- Mostly few are dropped: search from the beginning, in growing steps.
    while low + step < count and output_end(key, low + step - 1) <= keep_after do
      low, step = low + step, step * 2
    end
    low = first_output_beyond(key, low, math.min(low + step - 1, count - 1), keep_after)
  end
  if low > 0 then server.call('LTRIM', key, 2 * low, -1) end
  local first_end, plain = string.match(head_of_output(key, 0), '^(%d+) %d+ %d+ ?(%d*)$')
  return first_end and first_end - (tonumber(plain) or #server.call('LINDEX', key, 1))
end

local function append_output(batch, args)
  local max_bytes, max_pieces = tonumber(args[4]), tonumber(args[5])
  local outcomes, arrived, order = {}, {}, {}
  for i = HEADER + 1, #args, ITEM do
    local id, offset, data, unpacked = args[i], tonumber(args[i + 4]), args[i + 5], args[i + 6]
    local size = tonumber(unpacked) or #data
    local fields = server.call('HMGET', status_key(id), 'agent_id', 'lease_id', 'status', 'output_bytes', 'output_base')
    -- An agent's offsets start at 0 in each attempt; `output_base` is where this attempt began.
    local stored, base = tonumber(fields[4]) or 0, tonumber(fields[5]) or 0
    local own, held = fields[1] == args[i + 1], fields[2] == args[i + 2] and among(args[6], fields[3])
    if own and not held and not FINAL[fields[3]] then base = begin_of_given_up(id, args, i) end
    local first = base and base + offset
    local last = base and first + size
    if not own then
      outcomes[#outcomes + 1] = -3
    elseif FINAL[fields[3]] then
      outcomes[#outcomes + 1] = -2
    elseif not base then
      outcomes[#outcomes + 1] = -1
    elseif first > MAX_EXACT - size then
      outcomes[#outcomes + 1] = offset + size
    else
      if last > stored then
        if unpacked == '' and first < stored then data = string.sub(data, stored - first + 1) end
        local head = whole(last) .. ' ' .. args[i + 3] .. ' ' .. batch.stamp
        if unpacked ~= '' then head = head .. ' ' .. unpacked end
        local pieces = server.call('RPUSH', output_key(id), head, data) / 2
        local kept_from = trim(output_key(id), pieces, last, max_bytes, max_pieces)
        if kept_from then
          set_rare(id, 'output_bytes', whole(last), 'output_dropped', whole(kept_from))
        else
          set_rare(id, 'output_bytes', whole(last))
        end
        -- A later attempt that is assigned begins after it.
        if not held then set_rare(id, 'output_base', whole(last)) end
        if not arrived[id] then order[#order + 1] = id end
        arrived[id] = '{"event":"output","agent_id":"' .. args[i + 1] .. '","end_offset":' .. whole(last) .. '}'
        stored = last
      end
      outcomes[#outcomes + 1] = stored - base
    end
  end
  for _, id in ipairs(order) do
    add_event(batch, id, arrived[id], 'output')
  end
  return outcomes
end

register('append_output', append_output, {})

end

do
local function agents_key() return SHARD .. 'agents' end
-- Purpose: open a session for an agent and decide which held commands it keeps.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, agent_id, instance id, capacity, types (comma separated),
--          labels (JSON), version, offline_after_ms, session_ttl_ms, late_after_ms, slack_ms added to
--          time limits, delivery attempts, retention_ms, sources of adopt, sources of release, journal id ('' if it
--          keeps none), peer address, epoch of a live instance that does not answer and may be superseded ('' for
--          none), maximum sessions a minute, orphan_after_ms (how long without a server until the agent stops all
--          work, '0' for never), whether it knows emergency stops ('1' or '');
--          then for each command the agent holds: id, lease id
-- Returns  {'taken', ms since the other instance was last seen, its epoch, last_seen_ms, its peer address}, or
--          {'flapping', ms until it may attach again}, or
--          {'ok', epoch, now_ms, the journal id of its last session if that differs, else '', {id, JSON} of the
--          emergency stop in force for it, else {}, then for each held
--          command: false to drop it, 'counted' if its result is stored and another run is due, 'ended' if it ended
--          otherwise, or {attempt, assigned_ms, sent_ms, acknowledged_ms, started_ms, stored bytes of its output,
--          cancel_ms, message of the cancel, '1' for a control command, revision, slots ('' for 1)}}
-- Invariants: one live instance per agent id, and the replica that serves it hears of another; epochs only grow;
--          afterwards the agent holds exactly what ASSIGNED lists: a command that it did not
--          receive is requeued, one that it received and lost ends as outcome_unknown.

local HEADER, ITEM = 23, 2
local MINUTE_MS = 60000

local function adopt(batch, id, fields, slack_ms)
  if fields[F_STATUS] == 'queued' then
    leave_queue(batch, id, fields)
    append(batch.taken, assigned_key(fields[F_AGENT_ID]), id)
    move(batch, id, fields, 'assigned')
    if fields[F_ASSIGNED_MS] == '' then fields[F_ASSIGNED_MS] = batch.stamp end
  end
  local cancelled = fields[F_CANCEL_MS] ~= ''
  settle_doubt(id, fields)
  if fields[F_ACKNOWLEDGED_MS] == '' then fields[F_ACKNOWLEDGED_MS] = batch.stamp end
  set_rare(id, 'status', 'assigned', 'revision', revise(fields), 'assigned_ms', fields[F_ASSIGNED_MS],
    'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  index(batch, deadlines_key(), run_limit(batch, id, fields, slack_ms), id)
  announce(batch, fields[F_STARTED_MS] == '' and 'acknowledged' or 'started', id, fields, ',"assigned_ms":'
    .. fields[F_ASSIGNED_MS] .. receipt_members(fields)
    .. reason_members(fields) .. cancel_members(fields))
  return {fields[F_ATTEMPT], fields[F_ASSIGNED_MS], fields[F_SENT_MS], fields[F_ACKNOWLEDGED_MS],
    fields[F_STARTED_MS], whole(number(fields, F_OUTPUT_BYTES) - number(fields, F_OUTPUT_BASE)), fields[F_CANCEL_MS],
    fields[F_CANCEL_MESSAGE], CONTROL_TYPES[fields[F_TYPE]] and '1' or '', fields[F_REVISION],
    fields[F_SLOTS]}
end

-- Decides about a command that the agent holds under this lease.
local function settle_held(batch, id, lease_id, args, held)
  local fields = read(id)
  if fields and fields[F_AGENT_ID] == args[4] and FINAL[fields[F_STATUS]]
    and not (fields[F_STATUS] == 'completed' and fields[F_LEASE_ID] == lease_id) then
    return 'ended'
  end
  if not fields or fields[F_AGENT_ID] ~= args[4] or number(fields, F_ATTEMPT) == 0
    or not among(args[16], fields[F_STATUS]) then
    return false
  end
  if is_counted(fields, lease_id) then return 'counted' end
  if held[id] then return false end
  -- An attempt given up while the agent had it continues, and the later one has not started.
  if not goes_on_under(batch, id, fields, lease_id) then return false end
  held[id] = true
  return adopt(batch, id, fields, tonumber(args[13]))
end

local NOT_DELIVERED = {code = 'not_delivered', message = 'the connection ended before the agent had the command'}
local CAME_WITHOUT = {
  code = 'outcome_unknown', message = 'the agent came back without it; it may have run in part or in full',
}

-- `intact`: the agent has its record, so what it does not list it has not started.
local function settle_missing(batch, id, args, intact)
  local fields = read(id)
  if not fields or not among(args[17], fields[F_STATUS]) then
    append(batch.freed, assigned_key(args[4]), id)
  elseif fields[F_ACKNOWLEDGED_MS] ~= '' then
    lose(batch, id, fields, 'failed', CAME_WITHOUT, args[15])
  elseif intact or INSTANCE_TYPES[fields[F_TYPE]] then
    local policy = {attempts = tonumber(args[14]), retention_ms = args[15], slack_ms = tonumber(args[13])}
    release_or_give_up(batch, id, fields, NOT_DELIVERED, 0, policy, 'absent')
  else
    lose(batch, id, fields, 'failed', RECORD_LOST, args[15])
  end
end

-- Another instance lives. Notes the rival, and lets the replica that serves the agent probe it.
local function contest(batch, key, session, agent_id, args)
  server.call('HSET', key, 'rival_ms', batch.stamp, 'rival_peer', args[19])
  -- The same event once more: only a contest makes another replica send it.
  if session[5] ~= args[1] then announce_agent(batch, agent_id, session[1], session[7], 'true') end
  return {'taken', batch.now - tonumber(session[4]), session[1], session[4], session[6] or ''}
end

local function attach(batch, args)
  local agent_id, instance_id = args[4], args[5]
  local key = session_key(agent_id)
  local session = server.call('HMGET', key, 'epoch', 'instance_id', 'connected', 'last_seen_ms', 'replica', 'peer',
    'revision', 'minute_ms', 'minute_sessions', 'journal_id', 'record_changes')
  if session[2] and session[2] ~= instance_id and session[1] ~= args[20]
    and is_present(session[3], session[4], batch.now, tonumber(args[10])) then
    return contest(batch, key, session, agent_id, args)
  end
  local minute_ms, sessions = tonumber(session[8]) or 0, tonumber(session[9]) or 0
  if batch.now - minute_ms >= MINUTE_MS then minute_ms, sessions = batch.now, 0 end
  if sessions >= tonumber(args[21]) then
    server.call('HSET', key, 'flapping_ms', batch.stamp)
    return {'flapping', minute_ms + MINUTE_MS - batch.now}
  end
  local epoch = (tonumber(session[1]) or 0) + 1
  -- Epochs begin again once the sessions of an agent have been forgotten.
  if not session[1] then server.call('HSET', key, 'history_ms', batch.stamp) end
  local replaced = session[10] and session[10] ~= '' and session[10] ~= args[18]
  if replaced then server.call('HSET', key, 'journal_replaced_ms', batch.stamp) end
  local stop = stop_of(agent_id, args[8])
  local reply, held = {'ok', epoch, batch.now, replaced and session[10] or '', stop and {stop.id, stop.text} or {}}, {}
  local intact = session[1] and record_of(session[10], session[2]) == record_of(args[18], instance_id)
  for i = HEADER + 1, #args, ITEM do
    reply[#reply + 1] = settle_held(batch, args[i], args[i + 1], args, held)
  end
  for _, id in ipairs(server.call('SMEMBERS', assigned_key(agent_id))) do
    if not held[id] then settle_missing(batch, id, args, intact) end
  end
  local changes = session[11] or ''
  if session[1] and not intact then changes = note_record_change(changes, epoch) end
  server.call('HSET', key, 'replica', args[1], 'epoch', epoch, 'revision', '1', 'instance_id', instance_id,
    'connected', '1', 'connected_ms', batch.stamp, 'last_seen_ms', batch.stamp, 'capacity', args[6], 'types', args[7],
    'late_after_ms', args[12], 'labels', args[8], 'version', args[9], 'journal_id', args[18], 'peer', args[19],
    'minute_ms', whole(minute_ms), 'minute_sessions', sessions + 1, 'record_changes', changes,
    'offline_after_ms', args[10], 'orphaned_after_ms', args[22] == '0' and '' or whole(args[22] + args[13]),
    'knows_halts', args[23])
  server.call('HDEL', key, 'away_since_ms', 'vitals', 'signs')
  server.call('PEXPIRE', key, args[11])
  index(batch, agents_key(), 0, agent_id)
  announce_agent(batch, agent_id, epoch, '1', 'true')
  return reply
end

register('attach', attach, {'allow-oom'})

end

do
local function audit_head_key() return SHARD .. 'audit:head' end
local function audit_segment_key(chain, segment) return SHARD .. 'audit:segment:' .. chain .. ':' .. segment end
local function audit_manifests_key(chain) return SHARD .. 'audit:manifests:' .. chain end
local function audit_checkpoint_key() return SHARD .. 'audit:checkpoint' end
-- Purpose: append rows to the audit trail, if its head still is the one that they continue.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, MAC of the present head ('' if there is no trail), new head,
--          its MAC, id of the chain, segment of the rows, number of the first row, segment that is closed ('' if none),
--          its manifest, the MAC of that, first segment to drop ('' if none), last segment to drop, checkpoint ('' if
--          there is no new one);
--          then for each row: the row, its MAC
-- Returns  1 if the rows were stored, 0 if the head is another; Valkey's time in ms; the head and its MAC as they are
--          now ('' and '' if there is no trail)
-- Invariants: rows, head, manifest and dropped segments change together or not at all. Manifests are never dropped.
--          Works on a full Valkey: whoever fills it must not act unseen.

local HEADER, ITEM = 15, 2

local function audit_append(batch, args)
  local head = server.call('HMGET', audit_head_key(), 'head', 'mac')
  if (head[2] or '') ~= args[4] then return {0, batch.now, head[1] or '', head[2] or ''} end
  local rows, number = audit_segment_key(args[7], args[8]), tonumber(args[9])
  for i = HEADER + 1, #args, ITEM do
    server.call('XADD', rows, whole(number) .. '-0', 'row', args[i], 'mac', args[i + 1])
    number = number + 1
  end
  if args[10] ~= '' then
    server.call('HSET', audit_manifests_key(args[7]), args[10], args[12] .. ' ' .. args[11])
  end
  if args[13] ~= '' then
    for segment = tonumber(args[13]), tonumber(args[14]) do
      server.call('UNLINK', audit_segment_key(args[7], whole(segment)))
    end
  end
  if args[15] ~= '' then server.call('SET', audit_checkpoint_key(), args[15]) end
  server.call('HSET', audit_head_key(), 'head', args[5], 'mac', args[6])
  return {1, batch.now, args[5], args[6]}
end

register('audit_append', audit_append, {'allow-oom'})

end

do
local function audit_head_key() return SHARD .. 'audit:head' end
local function audit_checkpoint_key() return SHARD .. 'audit:checkpoint' end
-- Purpose: read the head of the audit trail and its last checkpoint.
-- KEYS     the event stream of the shard
-- ARGV     none
-- Returns  Valkey's time in ms; the head and its MAC ('' and '' if there is no trail); the last checkpoint ('' if there
--          is none)
-- Invariants: all parts are from the same moment.

local function audit_state(args)
  local head = server.call('HMGET', audit_head_key(), 'head', 'mac')
  local checkpoint = server.call('GET', audit_checkpoint_key())
  return {new_batch().now, head[1] or '', head[2] or '', checkpoint or ''}
end

register_reader('audit_state', audit_state)

end

do

-- Purpose: end queued commands; request the end of assigned ones, and of queued ones that their agent may run.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, retention_ms, sources of cancel, sources of finish;
--          then for each command: id, reason message
-- Returns  for each command: false if unknown, else its row after the call
-- Invariants: a cancel is requested once; a command that has ended is not changed; none is cancelled that may be
--          running.

local HEADER, ITEM = 6, 2

-- Ends a queued command, or waits for its agent where that may run an earlier attempt.
local function cancel_queued(batch, id, fields, message, retention_ms)
  local known = given_up_state(fields)
  if known ~= 'none' then request_cancel(batch, id, fields, message, '') end
  if known == 'open' then return doubt(batch, id, fields, retention_ms) end
  if known == 'lost' then return lose(batch, id, fields, 'failed', RECORD_LOST, retention_ms) end
  fields[F_CANCEL_MS], fields[F_CANCEL_MESSAGE] = batch.stamp, message
  server.call('HSET', status_key(id), 'cancel_ms', batch.stamp)
  end_cancelled(batch, id, fields, retention_ms)
end

local function cancel(batch, args)
  local rows = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and among(args[5], fields[F_STATUS]) then
      cancel_queued(batch, id, fields, args[i + 1], args[4])
    elseif fields and among(args[6], fields[F_STATUS]) and fields[F_CANCEL_MS] == '' then
      local doubtful = in_doubt(fields)
      request_cancel(batch, id, fields, args[i + 1], '')
      if doubtful then announce_doubt(batch, id, fields) end
    end
    rows[#rows + 1] = fields and server.call('HMGET', status_key(id), unpack(ROW_FIELDS)) or false
  end
  return rows
end

register('cancel', cancel, {'allow-oom'})

end

do

-- Purpose: record how far cancels have got: written to the agent's stream, or what the agent said of them.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, stage, reason message of 'could_not_stop' or ''
-- Returns  for each command: 'ok', or 'gone' if no cancel is wanted under this lease, or the stage cannot follow
-- Invariants: stages follow one another only as CANCEL_STAGES permits; what the agent says of a command in doubt ends
--             the doubt.

local HEADER, ITEM = 5, 5

-- Whether the cancel under this lease concerns the command.
local function concerns(fields, lease_id)
  return fields[F_LEASE_ID] == lease_id or base_of_given_up(fields, lease_id) ~= nil
end

local function note(batch, args, i)
  local id, lease_id, stage = args[i], args[i + 2], args[i + 3]
  local fields = read(id)
  if not fields or fields[F_AGENT_ID] ~= args[i + 1] or not among(args[5], fields[F_STATUS])
    or fields[F_CANCEL_MS] == '' or not concerns(fields, lease_id) then
    return 'gone'
  end
  local doubtful = in_doubt(fields) and stage ~= 'delivered'
  if doubtful then settle_doubt(id, fields) end
  local known = CANCEL_STAGES[fields[F_CANCEL_STAGE]]
  if not known or not known[stage] then return 'gone' end
  if doubtful then
    goes_on_under(batch, id, fields, lease_id)
    fields[F_ACKNOWLEDGED_MS] = batch.stamp
    server.call('HSET', status_key(id), 'acknowledged_ms', batch.stamp)
    index(batch, deadlines_key(), run_limit(batch, id, fields, tonumber(args[4])), id)
  end
  if stage == 'could_not_stop' then fields[F_CODE], fields[F_MESSAGE] = stage, args[i + 4] end
  fields[F_CANCEL_STAGE] = stage
  set_rare(id, 'revision', revise(fields), 'cancel_stage', stage, 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  announce(batch, 'cancel_progressed', id, fields,
    ',"assigned_ms":' .. fields[F_ASSIGNED_MS] .. receipt_members(fields) .. reason_members(fields)
    .. cancel_members(fields))
  return 'ok'
end

local function cancel_stage(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do outcomes[#outcomes + 1] = note(batch, args, i) end
  return outcomes
end

register('cancel_stage', cancel_stage, {'allow-oom'})

end

do
local function agent_commands_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':commands' end
local function agents_key() return SHARD .. 'agents' end
-- Purpose: check commands and indexes against each other, and repair what does not fit.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, retention_ms, ack_deadline_ms, slack_ms added to time limits,
--          queue_ttl_ms of a command that has lost its own;
--          then for each item: where it was found ('record', 'zset', 'set', 'key', 'ended', 'session', 'caller'), the
--          key that it was found in, the id of a command (of an agent for 'session'), the agent_id that the key names
--          or ''
-- Returns  for each repair: its kind, the id
-- Invariants: nothing changes that fits together. The record of a command is right, except for what it lacks; indexes
--          follow it. What has no record goes. A queued command that cannot be delivered ends as failed. A command
--          whose status this version does not know is left alone. What a key of the wrong type keeps from being checked
--          is reported as 'wrong_type', and the rest is checked.

local HEADER, ITEM = 7, 4

local function leave(batch, kind, id, call, key)
  server.call(call, key, id)
  batch.note(kind, id)
end

-- A queued command waits in its queue, or is delayed.
local function check_queued(batch, id, fields, found, args)
  local agent_id = fields[F_AGENT_ID]
  if found.assigned then leave(batch, 'wrong_index', id, 'SREM', assigned_key(agent_id)) end
  local own, other = 'ready', 'control'
  if CONTROL_TYPES[fields[F_TYPE]] then own, other = other, own end
  local other_key = other == 'ready' and ready_key or control_key
  if found[other] then leave(batch, 'wrong_index', id, 'ZREM', other_key(agent_id)) end
  if found[own] and found.delayed then
    leave(batch, 'wrong_index', id, 'SREM', delayed_key(agent_id))
    found.delayed = false
  end
  if server.call('EXISTS', command_key(id)) == 0 then
    end_without_command(batch, id, fields, args[4])
    batch.note('command_lost', id)
    return
  end
  if not found[own] and not found.delayed then
    server.call('ZADD', queue_key(fields), fields[F_RANK], id)
    announce(batch, 'ready', id, fields, ',"type":"' .. fields[F_TYPE] .. '"')
    batch.note('queued_not_ready', id)
  end
  if not found.deadline then
    server.call('ZADD', deadlines_key(), found.delayed and batch.stamp or fields[F_EXPIRES_MS], id)
    batch.note('queued_without_deadline', id)
  end
end

-- An assigned command is listed as such, and has a deadline.
local function check_assigned(batch, id, fields, found, args)
  local agent_id = fields[F_AGENT_ID]
  if found.ready then leave(batch, 'wrong_index', id, 'ZREM', ready_key(agent_id)) end
  if found.control then leave(batch, 'wrong_index', id, 'ZREM', control_key(agent_id)) end
  if found.delayed then leave(batch, 'wrong_index', id, 'SREM', delayed_key(agent_id)) end
  if not found.assigned then
    server.call('SADD', assigned_key(agent_id), id)
    batch.note('assigned_not_listed', id)
  end
  if not found.deadline then
    local deadline = batch.now + args[5]
    if in_doubt(fields) then
      deadline = math.max(batch.now, number(fields, F_DOUBT_UNTIL))
    elseif fields[F_ACKNOWLEDGED_MS] ~= '' then
      deadline = run_limit(batch, id, fields, tonumber(args[6]))
    end
    server.call('ZADD', deadlines_key(), whole(deadline), id)
    batch.note('assigned_without_deadline', id)
  end
end

-- An ended command is in no index of live ones.
local function check_ended(batch, id, fields, found)
  local agent_id = fields[F_AGENT_ID]
  if found.ready then leave(batch, 'ended_in_index', id, 'ZREM', ready_key(agent_id)) end
  if found.control then leave(batch, 'ended_in_index', id, 'ZREM', control_key(agent_id)) end
  if found.delayed then leave(batch, 'ended_in_index', id, 'SREM', delayed_key(agent_id)) end
  if found.assigned then leave(batch, 'ended_in_index', id, 'SREM', assigned_key(agent_id)) end
  if found.deadline then leave(batch, 'ended_in_index', id, 'ZREM', deadlines_key()) end
  if found.caller then leave(batch, 'ended_in_index', id, 'SREM', index_of_caller(fields[F_REQUESTED_BY])) end
  if server.call('EXISTS', command_key(id)) == 1 then
    server.call('RENAME', command_key(id), agent_command_key(agent_id, id))
    batch.note('ended_in_index', id)
  end
end

local function check_record(batch, id, hint, args)
  -- If it does not know its agent, the key that names that comes later in the sweep.
  local fields, found = complete_record(batch, id, hint, args[7])
  if not fields then return end
  local agent_id = fields[F_AGENT_ID]
  local status = fields[F_STATUS]
  for other, score in pairs(found.by_status) do
    if other ~= status and score then leave(batch, 'wrong_index', id, 'ZREM', by_status_key(other)) end
  end
  if not found.by_status[status] then
    server.call('ZADD', by_status_key(status), fields[F_QUEUED_US], id)
    batch.note('not_in_status_index', id)
  end
  if not found.commands then
    server.call('ZADD', agent_commands_key(agent_id), fields[F_QUEUED_US], id)
    batch.note('not_in_agent_index', id)
  end
  if FINAL[status] then return check_ended(batch, id, fields, found) end
  if server.call('SET', agent_command_key(agent_id, id), '1', 'NX') then batch.note('mark_missing', id) end
  if found.caller == false then
    server.call('SADD', index_of_caller(fields[F_REQUESTED_BY]), id)
    batch.note('not_in_caller_index', id)
  end
  if status == 'queued' then
    check_queued(batch, id, fields, found, args)
  else
    check_assigned(batch, id, fields, found, args)
  end
end

-- What an index or a key says of a command that has no record, or another agent, goes.
local function check_found(batch, where, key, id, hint, args)
  local record = server.call('HMGET', status_key(id), 'status', 'agent_id')
  if is_unknown(record[1]) then return end
  local misplaced = record[2] and hint ~= '' and record[2] ~= hint
  if misplaced or (not record[1] and not record[2] and server.call('EXISTS', status_key(id)) == 0) then
    local remove = where == 'set' and 'SREM' or 'ZREM'
    local gone = where == 'key' and server.call('UNLINK', key) or server.call(remove, key, id)
    -- It may have gone since it was found.
    if gone == 0 then return end
    batch.note(misplaced and 'wrong_index' or where == 'key' and 'key_without_record' or 'index_without_record', id)
  elseif not record[1] or not record[2] then
    check_record(batch, id, hint, args)
  end
end

local function check_session(batch, agent_id)
  if server.call('EXISTS', session_key(agent_id)) == 1 and not server.call('ZSCORE', agents_key(), agent_id) then
    server.call('ZADD', agents_key(), 0, agent_id)
    batch.note('session_not_listed', agent_id)
  end
end

-- An index of a caller's unfinished commands has those alone that it has queued.
local function check_caller(batch, key, id)
  local record = server.call('HMGET', status_key(id), 'status', 'requested_by')
  if is_unknown(record[1]) then return end
  local kind
  if server.call('EXISTS', status_key(id)) == 0 then
    kind = 'index_without_record'
  elseif index_of_caller(record[2] or '') ~= key then
    kind = 'wrong_index'
  elseif record[1] and FINAL[record[1]] then
    kind = 'ended_in_index'
  end
  if kind and server.call('SREM', key, id) == 1 then batch.note(kind, id) end
end

-- The caller has found that ENDED lacks it.
local function check_forgettable(batch, id)
  local status = server.call('HGET', status_key(id), 'status')
  if status and FINAL[status] then
    server.call('RPUSH', ended_key(), id)
    batch.note('ended_not_listed', id)
  end
end

local function check(batch, where, key, id, hint, args)
  if where == 'record' then
    check_record(batch, id, hint, args)
  elseif where == 'session' then
    check_session(batch, id)
  elseif where == 'caller' then
    check_caller(batch, key, id)
  elseif where == 'ended' then
    check_forgettable(batch, id)
  else
    check_found(batch, where, key, id, hint, args)
  end
  -- A later item may be about the same command.
  write(batch)
end

local function check_indexes(batch, args)
  local repairs = {}
  batch.note = function(kind, id) add(repairs, kind, id) end
  for i = HEADER + 1, #args, ITEM do
    local where, key, id, hint = args[i], args[i + 1], args[i + 2], args[i + 3]
    local checked, failure = pcall(check, batch, where, key, id, hint, args)
    if not checked then
      -- A table or a string: versions of Valkey differ.
      local text = type(failure) == 'table' and failure.err or tostring(failure)
      if not string.find(text, 'WRONGTYPE', 1, true) then error(failure) end
      discard(batch)
      batch.note('wrong_type', id)
    end
  end
  return repairs
end

register('check_indexes', check_indexes, {'allow-oom'})

end

do

-- Purpose: assign queued commands to attached agents, by rank, each under a lease; control commands first.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, ack_deadline_ms, maximum total bytes of commands, sources of
--          claim, sources of outdate, sources of expire, retention_ms;
--          then for each agent: agent_id, epoch, maximum commands, lease id, maximum control commands,
--          maximum slots of the commands
-- Returns  {now_ms, then for each agent {'superseded'} or {'ok', number of control commands, which come first,
--          slots that the next command needs if too few were left, else 0, {place from 0, slots, ...} of each command
--          that does not use one slot,
--          then for each command: id, attempt, revision, command}}
-- Invariants: only the session with the latest epoch gets commands; a claimed id is in ASSIGNED and not in READY or
--          CONTROL, and its deadline is the ack deadline; a command for another instance of the agent is not assigned
--          but ends as failed, an expired one as timeout. One that its agent may have started is assigned again only
--          while the agent has its record of that. None overtakes one that needs more slots than are left; one that
--          needs more than the agent has ends as failed. While an emergency stop is in force for an agent, it gets only
--          control commands.

local HEADER, ITEM = 9, 6
local FIRST = 4
local MAX_ENDED = 100

local function read_commands(popped)
  local names = {}
  for n = 1, #popped, 2 do names[#names + 1] = command_key(popped[n]) end
  return server.call('MGET', unpack(names))
end

local function assign(batch, id, facts, session)
  local attempt, revision = facts[3] + 1, string.format('%d', facts[2] + 1)
  move_from(batch, id, facts[1], 'assigned', facts[4])
  append(batch.taken, assigned_key(session.agent_id), id)
  index(batch, deadlines_key(), session.acknowledge_by, id)
  local cleared = ''
  if attempt == 1 then
    server.call('HSET', status_key(id), 'status', 'assigned', 'revision', revision, 'attempt', '1',
      'lease_id', session.lease_id, 'assigned_ms', batch.stamp)
  else
    local output_bytes = server.call('HGET', status_key(id), 'output_bytes') or '0'
    set_rare(id, 'status', 'assigned', 'revision', revision, 'attempt', attempt, 'lease_id', session.lease_id,
      'assigned_ms', batch.stamp, 'code', '', 'message', '', 'output_base', output_bytes)
    cleared = ',"code":"","message":""'
  end
  announce_change(batch, 'assigned', id, session.agent_id, revision, 'assigned', attempt,
    ',"assigned_ms":' .. batch.stamp .. cleared)
  return attempt, revision
end

-- Ends a command meant for an agent instance that is gone.
local function outdate(batch, id, fields, retention_ms)
  fields[F_CODE] = 'instance_gone'
  fields[F_MESSAGE] = fields[F_INSTANCE_ID] == ''
    and 'it was queued before this instance of the agent started'
    or 'the instance of the agent that it was queued for is gone'
  finish_command(batch, id, fields, 'failed', retention_ms, '', number(fields, F_OUTPUT_BYTES))
end

-- Ends a command of which an earlier attempt may have started, if its agent has lost the record of that: it could not
-- tell that it has started it before.
local function end_lost(batch, id, session)
  local fields = read(id)
  if given_up_state(fields) ~= 'lost' then return false end
  lose(batch, id, fields, 'failed', RECORD_LOST, session.retention_ms)
  return true
end

-- Ends a command that its agent has too few slots for, as far as nothing of it runs.
local function end_too_heavy(batch, id, slots, session)
  local fields = read(id)
  local known = given_up_state(fields)
  if known == 'lost' then
    lose(batch, id, fields, 'failed', RECORD_LOST, session.retention_ms)
  elseif known == 'open' then
    doubt(batch, id, fields, session.retention_ms)
  else
    fields[F_CODE] = 'too_many_slots'
    fields[F_MESSAGE] = 'it needs ' .. slots .. ' slots, its agent has ' .. session.capacity
    finish_command(batch, id, fields, 'failed', session.retention_ms, '', number(fields, F_OUTPUT_BYTES))
  end
end

-- Ends a popped command that must not be assigned, or ignores one that is not queued or is another agent's. Returns
-- whether it was one.
local function end_unassignable(batch, id, facts, command, session)
  if facts[7] ~= session.agent_id or not among(session.sources, facts[1]) then return true end
  if not command then
    end_without_command(batch, id, read(id), session.retention_ms)
    return true
  end
  if session.control then
    local fields = read(id)
    if INSTANCE_TYPES[fields[F_TYPE]] and fields[F_INSTANCE_ID] ~= session.instance_id
      and among(session.outdate_sources, facts[1]) then
      outdate(batch, id, fields, session.retention_ms)
      return true
    end
  end
  if tonumber(facts[5]) <= batch.now and among(session.expire_sources, facts[1]) then
    local fields = read(id)
    expire(batch, id, fields, session.retention_ms, given_up_state(fields))
    return true
  end
  if facts[6] and tonumber(facts[6]) > session.capacity and among(session.outdate_sources, facts[1]) then
    end_too_heavy(batch, id, facts[6], session)
    return true
  end
  return facts[3] ~= '0' and end_lost(batch, id, session)
end

-- What a claim is decided by. A record that lacks some of it is completed first.
local FACTS = {'status', 'revision', 'attempt', 'queued_us', 'expires_ms', 'slots', 'agent_id'}

local function read_facts(id, session)
  local facts = server.pcall('HMGET', status_key(id), unpack(FACTS))
  if facts[1] and tonumber(facts[2]) and tonumber(facts[3]) and tonumber(facts[4]) and tonumber(facts[5]) and facts[7]
  then
    return facts
  end
  if facts.err or not mend(id, session.agent_id) then return {} end
  return server.call('HMGET', status_key(id), unpack(FACTS))
end

-- Claims up to `limit` commands from one queue into `claimed`; returns their number and the bytes left. Ends the
-- commands that it finds unassignable, up to a bound. The first that needs more slots than are left blocks its queue:
-- `claimed` says how many it needs.
local function claim_from(batch, queue, limit, session, claimed, bytes_left)
  local count, popped_before, full = 0, 0, false
  while not full and count < limit and session.slots_left > 0 and popped_before < limit + MAX_ENDED do
    local popped = server.pcall('ZPOPMIN', queue, math.min(limit - count, session.slots_left))
    -- Fails if another program has put something else there.
    if popped.err or #popped == 0 then break end
    popped_before = popped_before + #popped / 2
    local commands = read_commands(popped)
    for n = 1, #popped, 2 do
      local id, command = popped[n], commands[(n + 1) / 2]
      local facts = not full and read_facts(id, session)
      if full then
        index(batch, queue, popped[n + 1], id)
      elseif not end_unassignable(batch, id, facts, command, session) then
        local slots, place = tonumber(facts[6] or 1), #claimed
        if slots > session.slots_left then
          claimed[3], full = slots, true
          index(batch, queue, popped[n + 1], id)
        elseif place > FIRST and #command > bytes_left then
          -- The first is always taken, so that a large command cannot block its queue.
          bytes_left, full = 0, true
          index(batch, queue, popped[n + 1], id)
        else
          bytes_left = math.max(0, bytes_left - #command)
          count, session.slots_left = count + 1, session.slots_left - slots
          if slots ~= 1 then add(claimed[4], (place - FIRST) / 4, slots) end
          claimed[place + 1], claimed[place + 4] = id, command
          claimed[place + 2], claimed[place + 3] = assign(batch, id, facts, session)
        end
      end
    end
  end
  return count, bytes_left
end

local function claim(batch, args)
  local bytes_left = tonumber(args[5])
  local replies = {batch.now}
  local acknowledge_by = whole(batch.now + args[4])
  for i = HEADER + 1, #args, ITEM do
    local agent_id, epoch = args[i], args[i + 1]
    local facts = server.call('HMGET', session_key(agent_id), 'epoch', 'connected', 'instance_id', 'capacity')
    if facts[1] ~= epoch or facts[2] ~= '1' then
      replies[#replies + 1] = {'superseded'}
    else
      local max_control = tonumber(args[i + 4])
      local claimed = {'ok', 0, 0, {}}
      local session = {
        agent_id = agent_id, lease_id = args[i + 3], acknowledge_by = acknowledge_by, sources = args[6],
        outdate_sources = args[7], expire_sources = args[8], retention_ms = args[9],
        instance_id = facts[3] or '', control = true, capacity = tonumber(facts[4]), slots_left = max_control,
      }
      if max_control > 0 then
        claimed[2], bytes_left = claim_from(batch, control_key(agent_id), max_control, session, claimed, bytes_left)
      end
      session.control, session.slots_left = false, tonumber(args[i + 5])
      if not stop_of(agent_id) then
        local _
        _, bytes_left = claim_from(batch, ready_key(agent_id), tonumber(args[i + 2]), session, claimed, bytes_left)
      end
      replies[#replies + 1] = claimed
    end
  end
  return replies
end

register('claim', claim, {'allow-oom'}, 'assigned')

end

do
local function enrolment_token_key(token_id) return SHARD .. 'enrolment:token:' .. token_id end
local function enrolment_tokens_key(agent) return SHARD .. 'enrolment:tokens:' .. agent end
-- Purpose: store an enrolment token, without its secret.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, token id, digest of its secret, agent id or pattern of ids,
--          labels (JSON), how many agents may enrol with it, lifetime_ms
-- Returns  when it expires, in milliseconds since the epoch
-- Invariants: a token expires with its key; those for one agent alone are known by that agent.

local function create_enrolment_token(batch, args)
  local key = enrolment_token_key(args[4])
  local expires_ms = whole(batch.now + args[9])
  server.call('HSET', key, 'digest', args[5], 'agents', args[6], 'labels', args[7], 'left', args[8],
    'expires_ms', expires_ms)
  server.call('PEXPIRE', key, args[9])
  if not string.find(args[6], '[*?]') then
    local tokens = enrolment_tokens_key(args[6])
    server.call('SADD', tokens, args[4])
    if server.call('PTTL', tokens) < tonumber(args[9]) then server.call('PEXPIRE', tokens, args[9]) end
  end
  return expires_ms
end

register('create_enrolment_token', create_enrolment_token, {})

end

do

-- Purpose: record that agents are away.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep;
--          then for each agent: agent_id, epoch
-- Returns  for each agent: 1, or 0 if the session was no longer the latest
-- Invariants: a late end of an old session does not affect a newer one.

local HEADER, ITEM = 3, 2

local function detach(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local agent_id, epoch = args[i], args[i + 1]
    local key = session_key(agent_id)
    local session = server.call('HMGET', key, 'epoch', 'connected')
    if session[1] == epoch and session[2] == '1' then
      server.call('HSET', key, 'connected', '0', 'away_since_ms', batch.stamp)
      announce_agent(batch, agent_id, epoch, server.call('HINCRBY', key, 'revision', 1), 'false')
      outcomes[#outcomes + 1] = 1
    else
      outcomes[#outcomes + 1] = 0
    end
  end
  return outcomes
end

register('detach', detach, {'allow-oom'})

end

do

-- Purpose: act on passed deadlines of live commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, maximum commands, delivery attempts, retention_ms,
--          offline_after_ms, slack_ms added to the time limit, sources of expire, sources of release;
--          then one delay_ms for each attempt: the delay after that attempt was not acknowledged
-- Returns  {ms until the next deadline or -1, then for each command: id, agent_id, new state}
-- Invariants: a passed deadline is acted on once, even if several replicas try. After GAP_MS without a server that
--             looks at deadlines, agents that have not been heard since have offline_after_ms to report what they hold.

local HEADER = 10
-- Far below GAP_MS: Valkey need not write on each look.
local NOTED_FOR_MS = 2000
-- For how long a command with a status of a later version is left to the servers of that version.
local LEFT_FOR_MS = 1000

-- Notes this look at deadlines, unless the note of an earlier one still shows that there is no gap.
local function note_look(batch)
  local ended = gap_ended(batch)
  if batch.last_look and batch.now - batch.last_look <= NOTED_FOR_MS then return end
  server.call('HSET', due_passes_key(), 'last_ms', batch.stamp, 'gap_ended_ms', whole(ended))
end

-- Waits on for a command in doubt, or ends it.
local function end_doubt(batch, id, fields, retention_ms)
  local last = doubt_end(batch, fields)
  if last <= batch.now then return lose(batch, id, fields, 'timeout', not_heard(fields), retention_ms) end
  index(batch, deadlines_key(), whole(last), id)
  return fields[F_STATUS]
end

-- Ends an acknowledged command that its agent has neither finished nor stopped in time.
local function overrun(batch, id, fields, retention_ms, offline_after_ms)
  local session = server.call('HMGET', session_key(fields[F_AGENT_ID]), 'connected', 'last_seen_ms')
  read_request(id, fields)
  local limit = seconds(time_limit(fields))
  if is_present(session[1], session[2], batch.now, offline_after_ms) then
    fields[F_CODE] = 'time_limit'
    fields[F_MESSAGE] = 'the agent did not report the end within the time limit of ' .. limit
  else
    fields[F_CODE] = 'agent_lost'
    fields[F_MESSAGE] = 'the agent went away and did not come back within the time limit of ' .. limit
  end
  finish_command(batch, id, fields, 'timeout', retention_ms, '', number(fields, F_OUTPUT_BYTES), 'unconfirmed')
  return 'timeout'
end

-- Ends the delay of a released command. Nothing that is shown changes, so its revision stays.
local function make_ready(batch, id, fields)
  append(batch.freed, delayed_key(fields[F_AGENT_ID]), id)
  index(batch, queue_key(fields), fields[F_RANK], id)
  index(batch, deadlines_key(), fields[F_EXPIRES_MS], id)
  announce(batch, 'ready', id, fields, ',"type":"' .. fields[F_TYPE] .. '"')
  return 'queued'
end

local function act(batch, id, fields, args)
  local retention_ms = args[6]
  if among(args[9], fields[F_STATUS]) then
    read_request(id, fields)
    if number(fields, F_EXPIRES_MS) <= batch.now then
      return expire(batch, id, fields, retention_ms, given_up_state(fields))
    end
    return make_ready(batch, id, fields)
  end
  if not among(args[10], fields[F_STATUS]) then
    unindex(batch, deadlines_key(), id)
    return fields[F_STATUS]
  end
  if in_doubt(fields) then return end_doubt(batch, id, fields, retention_ms) end
  local waits_until = back_by(batch, server.call('HGET', session_key(fields[F_AGENT_ID]), 'last_seen_ms'), args[7])
  if waits_until > batch.now then
    index(batch, deadlines_key(), whole(waits_until), id)
    return fields[F_STATUS]
  end
  if fields[F_ACKNOWLEDGED_MS] ~= '' then
    return overrun(batch, id, fields, retention_ms, tonumber(args[7]))
  end
  local attempt = number(fields, F_ATTEMPT)
  local reason = {code = 'not_acknowledged', message = 'the agent did not acknowledge attempt ' .. attempt}
  local delay_ms = tonumber(args[HEADER + attempt] or args[#args])
  local policy = {attempts = tonumber(args[5]), retention_ms = retention_ms, slack_ms = tonumber(args[8])}
  return release_or_give_up(batch, id, fields, reason, delay_ms, policy, '')
end

local function due(batch, args)
  local reply = {-1}
  note_look(batch)
  local ids = server.call('ZRANGEBYSCORE', deadlines_key(), '-inf', batch.now, 'LIMIT', 0, args[4])
  for _, id in ipairs(ids) do
    local fields = read(id)
    if fields and is_unknown(fields[F_STATUS]) then
      index(batch, deadlines_key(), whole(batch.now + LEFT_FOR_MS), id)
    elseif fields then
      reply[#reply + 1] = id
      reply[#reply + 1] = fields[F_AGENT_ID]
      reply[#reply + 1] = act(batch, id, fields, args)
    else
      unindex(batch, deadlines_key(), id)
    end
  end
  local upcoming = server.call('ZRANGE', deadlines_key(), #ids, #ids, 'WITHSCORES')
  local first = tonumber(upcoming[2])
  -- Those acted on may have a deadline again, which the batch has not written yet.
  local added = batch.additions[deadlines_key()] or {}
  for i = 1, #added, 2 do
    local again = tonumber(added[i])
    if not first or again < first then first = again end
  end
  if first then reply[1] = math.max(0, floor(first - batch.now)) end
  return reply
end

register('due', due, {'allow-oom'})

end

do
local function idempotency_key(key) return SHARD .. 'command:idempotency:' .. key end
local function agent_commands_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':commands' end
-- Purpose: store commands and make them ready for their agents.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, queue_limit, when_full ('refuse' | 'drop'), ageing_us per
--          point of priority, idempotency_ms, offline_after_ms, retention_ms, sources of cancel, caller_commands or
--          '0' for any number;
--          then for each command: id, agent_id, type, priority, command, params_summary or '', time_limit_ms,
--          queue_ttl_ms, offline ('queue' | 'fail'), max_runs with ' CODE=N' after it for each reason that
--          has its own, idempotency key or '', request digest, slots, requester or ''
-- Returns  {now_ms, then for each command {outcome, command_id, agent known, agent present, away since ms or '',
--          for too_many_slots the agent's capacity, for stopped the id of the emergency stop}};
--          outcomes: queued, already_queued (same key and request), key_taken, agent_offline, queue_full,
--          unsupported_type, too_many_slots, stopped, too_many_commands
-- Invariants: a refused command leaves nothing behind; an id is in AGENT_COMMANDS, BY_STATUS(queued), DEADLINES and
--          READY (control commands: CONTROL), and CALLER_COMMANDS if its requester is known, or in none of them.
--          Control commands have a limit of their own, and are queued whatever else their caller has queued; a STOP
--          records the instance that it is for. While an emergency stop is in force for an agent, only control commands
--          are queued for it.

local HEADER, ITEM = 11, 14

local function agent_for_queueing(agents, agent_id, now, offline_after_ms)
  local agent = agents[agent_id]
  if agent then return agent end
  local session = server.call('HMGET', session_key(agent_id), 'connected', 'last_seen_ms', 'types', 'away_since_ms',
    'instance_id', 'capacity')
  local present = is_present(session[1], session[2], now, offline_after_ms)
  agent = {
    known = session[1] and 1 or 0,
    present = present and 1 or 0,
    types = session[3] or '',
    away_since = not present and (session[4] or session[2]) or '',
    queued = server.call('ZCARD', ready_key(agent_id)) + server.call('SCARD', delayed_key(agent_id)),
    control_queued = server.call('ZCARD', control_key(agent_id)),
    instance_id = session[5] or '',
    capacity = tonumber(session[6] or ''),
  }
  agents[agent_id] = agent
  return agent
end

-- Notes how many unfinished commands the caller with this index has, if that is limited. Read once per call.
local function count_caller(batch, caller, limit)
  if caller and limit > 0 and not batch.callers[caller] then batch.callers[caller] = server.call('SCARD', caller) end
end

local function add_to_count(batch, caller, number_added)
  if batch.callers[caller] then batch.callers[caller] = batch.callers[caller] + number_added end
end

-- The ids in a queue, the oldest of the lowest priority last. Read once per call, as a queue may be long.
local function droppable(agent_id)
  local queue = {}
  local function add(ids)
    for _, id in ipairs(ids) do
      local fields = server.call('HMGET', status_key(id), 'priority', 'queued_us')
      queue[#queue + 1] = {id = id, priority = tonumber(fields[1]) or 0, queued_us = tonumber(fields[2]) or 0}
    end
  end
  add(server.call('ZRANGE', ready_key(agent_id), 0, -1))
  add(server.call('SMEMBERS', delayed_key(agent_id)))
  table.sort(queue, function(one, other)
    if one.priority ~= other.priority then return one.priority > other.priority end
    if one.queued_us ~= other.queued_us then return one.queued_us > other.queued_us end
    return one.id > other.id
  end)
  return queue
end

-- Ends the lowest-ranking command of a full queue, unless all have a higher priority than the given one, or may run: an
-- attempt was given up that its agent may have started. Commands queued by this call are not in the index yet, so it
-- never drops them.
local function drop_one(batch, agent, agent_id, priority, cancel_sources, retention_ms)
  agent.droppable = agent.droppable or droppable(agent_id)
  local queue = agent.droppable
  while #queue > 0 and queue[#queue].priority <= priority do
    local id = table.remove(queue).id
    local fields = read(id)
    if fields and among(cancel_sources, fields[F_STATUS]) and given_up_state(fields) == 'none' then
      fields[F_CODE] = 'queue_overflow'
      fields[F_MESSAGE] = 'pushed out of a full queue by a newer command of the same or a higher priority'
      finish_command(batch, id, fields, 'cancelled', retention_ms, '', number(fields, F_OUTPUT_BYTES))
      agent.queued = agent.queued - 1
      add_to_count(batch, index_of_caller(fields[F_REQUESTED_BY]) or '', -1)
      return true
    end
  end
  return false
end

-- The field of a known requester and its value, or nothing.
local function requester_fields(requester)
  if requester ~= '' then return 'requested_by', requester end
end

-- Writes an accepted command. `place` is its place among those of this call.
local function store(batch, args, i, agent, caller, place)
  local id, agent_id, kind, priority, summary = args[i], args[i + 1], args[i + 2], args[i + 3], args[i + 5]
  local requester = args[i + 13]
  -- Stay within the receipt's millisecond, which time filters use; ids, which only grow, break ties.
  local queued_us = math.min(batch.now_us + place, batch.now * 1000 + 999)
  local arrival, rank = whole(queued_us), whole(queued_us - priority * args[6])
  local expires = whole(batch.now + args[i + 7])
  local strings = batch.strings
  local n = #strings
  strings[n + 1], strings[n + 2] = command_key(id), args[i + 4]
  strings[n + 3], strings[n + 4] = agent_command_key(agent_id, id), '1'
  -- What almost every change reads comes first: Valkey searches a small hash from its beginning.
  server.call('HSET', status_key(id), 'status', 'queued', 'revision', '1', 'agent_id', agent_id, 'type', kind,
    'attempt', '0', 'queued_us', arrival, 'expires_ms', expires, 'priority', priority, 'queued_ms', batch.stamp,
    'rank', rank, 'time_limit_ms', args[i + 6], 'params_summary', summary, requester_fields(requester))
  if args[i + 9] ~= '1' then server.call('HSET', status_key(id), 'max_runs', args[i + 9]) end
  if args[i + 12] ~= '1' and not CONTROL_TYPES[kind] then set_rare(id, 'slots', args[i + 12]) end
  if INSTANCE_TYPES[kind] then set_rare(id, 'instance_id', agent.instance_id) end
  if caller then append(batch.taken, caller, id) end
  local key = args[i + 10]
  if key ~= '' then server.call('SET', idempotency_key(key), id .. ' ' .. args[i + 11], 'PX', args[7]) end
  index(batch, agent_commands_key(agent_id), arrival, id)
  index(batch, by_status_key('queued'), arrival, id)
  index(batch, deadlines_key(), expires, id)
  index(batch, (CONTROL_TYPES[kind] and control_key or ready_key)(agent_id), rank, id)
  local changed = ',"type":"' .. kind .. '","priority":' .. priority .. ',"queued_ms":' .. batch.stamp
  if summary ~= '' then changed = changed .. ',"params_summary":' .. cjson.encode(summary) end
  if requester ~= '' then changed = changed .. ',"requested_by":' .. cjson.encode(requester) end
  announce_change(batch, 'queued', id, agent_id, '1', 'queued', '0', changed)
end

-- Decides about a command. Returns the outcome, the id that the idempotency key names, and a detail.
local function decide(batch, args, i, agent, caller)
  local agent_id, kind, key, digest = args[i + 1], args[i + 2], args[i + 10], args[i + 11]
  local known = key ~= '' and server.call('GET', idempotency_key(key))
  if known then
    local outcome = string.sub(known, -#digest) == digest and 'already_queued' or 'key_taken'
    return outcome, string.sub(known, 1, -#digest - 2)
  end
  if not CONTROL_TYPES[kind] then
    local stop = stop_of(agent_id)
    if stop then return 'stopped', nil, stop.id end
  end
  -- An absent agent may come back with other types, and refuses what it cannot run.
  if agent.present == 1 and agent.types ~= '' and not listed(agent.types, kind) then return 'unsupported_type' end
  if not CONTROL_TYPES[kind] and agent.capacity and tonumber(args[i + 12]) > agent.capacity then
    return 'too_many_slots', nil, agent.capacity
  end
  if agent.present == 0 and args[i + 8] == 'fail' then return 'agent_offline' end
  local queue_limit = tonumber(args[4])
  if CONTROL_TYPES[kind] then
    if agent.control_queued >= queue_limit then return 'queue_full' end
    agent.control_queued = agent.control_queued + 1
    return 'queued'
  end
  if (batch.callers[caller or ''] or 0) >= batch.caller_limit then return 'too_many_commands' end
  if agent.queued >= queue_limit and not (args[5] == 'drop'
    and drop_one(batch, agent, agent_id, tonumber(args[i + 3]), args[10], args[9])) then
    return 'queue_full'
  end
  agent.queued = agent.queued + 1
  return 'queued'
end

local function enqueue(batch, args)
  local agents, outcomes = {}, {batch.now}
  local place, limit = 0, tonumber(args[11])
  batch.callers, batch.caller_limit = {}, limit > 0 and limit or math.huge
  for i = HEADER + 1, #args, ITEM do
    local agent = agent_for_queueing(agents, args[i + 1], batch.now, tonumber(args[8]))
    local caller = index_of_caller(args[i + 13])
    count_caller(batch, caller, limit)
    local outcome, kept_id, detail = decide(batch, args, i, agent, caller)
    if outcome == 'queued' then
      store(batch, args, i, agent, caller, place)
      add_to_count(batch, caller or '', 1)
      place = place + 1
    end
    outcomes[#outcomes + 1] = {outcome, kept_id or args[i], agent.known, agent.present, agent.away_since, detail}
  end
  return outcomes
end

register('enqueue', enqueue, {}, 'queued')

end

do
local function enrolment_token_key(token_id) return SHARD .. 'enrolment:token:' .. token_id end
local function generations_key() return SHARD .. 'agents:generations' end
-- Purpose: use an enrolment token once, and begin a new generation of the agent's certificates.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, token id, digest of its secret, agent_id, '1' for a token that
--          admits new agents only, '1' to replace an agent that is connected, offline_after_ms
-- Returns  {'refused'} if there is no such token, it is used up, or its secret is another; {'known'} if the agent has
--          enrolled, connected or been revoked before and the token admits new agents only; {'live', ms since the agent
--          was last seen, its peer address}; or {'ok', generation}
-- Invariants: a token never serves more often than its count, whoever asks at the same time; from then on, certificates
--          of earlier generations are revoked; nothing is changed unless the agent is enrolled.

local function enrol(batch, args)
  local key, agent_id = enrolment_token_key(args[4]), args[6]
  local token = server.call('HMGET', key, 'digest', 'left')
  if token[1] ~= args[5] or tonumber(token[2]) < 1 then return {'refused'} end
  local generation = tonumber(server.call('HGET', generations_key(), agent_id) or 0) + 1
  local only_new = args[7] == '1'
  local session = server.call('HMGET', session_key(agent_id), 'connected', 'last_seen_ms', 'peer')
  local revoked = server.call('HGET', revocations_key(), 'agent' .. ':' .. agent_id)
  -- An agent may have other credentials: a token, or a certificate of another CA.
  if only_new and (generation > 1 or session[1] or revoked) then return {'known'} end
  if is_present(session[1], session[2], batch.now, tonumber(args[9])) and args[8] ~= '1' then
    return {'live', batch.now - tonumber(session[2]), session[3] or ''}
  end
  if server.call('HINCRBY', key, 'left', -1) < 1 then server.call('DEL', key) end
  -- Credentials that were revoked before the first enrolment stay so, whatever is restored later.
  if revoked then generation = math.max(generation, 2) end
  server.call('HSET', generations_key(), agent_id, whole(generation))
  if generation > 1 then note_replaced(batch, agent_id, generation - 1) end
  return {'ok', generation}
end

register('enrol', enrol, {})

end

do
local function enrolment_token_key(token_id) return SHARD .. 'enrolment:token:' .. token_id end
-- Purpose: read an enrolment token.
-- KEYS     the event stream of the shard
-- ARGV     token id, digest of its secret
-- Returns  {agent id or pattern of ids, labels (JSON), how many agents may still enrol with it, expires_ms}; {} if
--          there is no such token, or its secret is another
-- Invariants: without the secret, nothing shows whether a token exists.

local function enrolment_token(args)
  local key = enrolment_token_key(args[1])
  local token = server.call('HMGET', key, 'digest', 'agents', 'labels', 'left', 'expires_ms')
  if token[1] ~= args[2] then return {} end
  return {token[2], token[3], token[4], token[5]}
end

register_reader('enrolment_token', enrolment_token)

end

do

-- Purpose: extend the time limits of running commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, time_limit_ms from the start on
-- Returns  for each command: 'ok', 'short' if its limit is as long already, or 'gone' if this lease does not hold it
-- Invariants: a limit and its deadline only grow; only the lease that holds a command extends it.

local HEADER, ITEM = 5, 4

local function extend_one(batch, args, i)
  local id, limit_ms = args[i], tonumber(args[i + 3])
  local fields = read(id)
  if not fields or fields[F_AGENT_ID] ~= args[i + 1] or fields[F_LEASE_ID] ~= args[i + 2]
    or not among(args[5], fields[F_STATUS]) then
    return 'gone'
  end
  read_request(id, fields)
  if limit_ms <= time_limit(fields) then return 'short' end
  fields[F_EXTENDED_MS] = args[i + 3]
  set_rare(id, 'extended_ms', args[i + 3], 'revision', revise(fields))
  local started = tonumber(fields[F_STARTED_MS]) or batch.now
  local before = tonumber(server.call('ZSCORE', deadlines_key(), id)) or 0
  -- Written at once, for a second extension in this call to see.
  server.call('ZADD', deadlines_key(), math.max(before, started + limit_ms + args[4]), id)
  announce(batch, 'extended', id, fields, receipt_members(fields))
  return 'ok'
end

local function extend(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do outcomes[#outcomes + 1] = extend_one(batch, args, i) end
  return outcomes
end

register('extend', extend, {'allow-oom'})

end

do
local function late_result_key(command_id) return 'cmd:late:' .. named(command_id) end
-- Purpose: store the outcomes that agents report.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, retention_ms, sources of finish, sources of settle;
--          then for each command: id, agent_id, lease id, status, reason code, reason message, JSON members of the
--          result (each followed by a comma), bytes of output, milliseconds before another run ('' for none wanted),
--          milliseconds from the claim to: sent, acknowledged, started ('' if unknown), and the agent's word on the
--          handler ('ran', 'survived' if processes of it still run, 'refused', 'absent' if a cancel did not find it)
-- Returns  {now_ms, then for each command: run_again, late (already ended; stored as LATE_RESULT), stored (that is its
--          result already), unknown, foreign (another agent's), stale (of an earlier attempt), open (not found, but
--          another attempt may run), or {stored, revision, type, priority, attempt, queued_us, assigned_ms, sent_ms,
--          acknowledged_ms, started_ms, cancel_ms, params_summary, cancel_stage, requested_by, and reason code and
--          message if others count than those reported}, '' where unset}
-- Invariants: a terminal status and its result are written once, together; only the agent that a command is for can
--          end it, under the current lease or with the outcome of a given-up attempt if no later one has started; a
--          run is counted once, however often it is reported. A command is shown as the attempt that ended it.

local HEADER, ITEM = 6, 13

-- Bytes of output over all attempts. The agent counts those of its own attempt; dropped ones are included, so that
-- readers see the gap.
local function output_bytes_of(fields, said)
  if fields[F_RARE] == '' and said == '0' then return 0 end
  return math.max(number(fields, F_OUTPUT_BYTES), math.min(number(fields, F_OUTPUT_BASE) + said, MAX_EXACT))
end

-- The permitted number of runs: that for the reason of this failure, or else that for any reason.
local function runs_permitted(fields)
  local permitted, code = fields[F_MAX_RUNS], fields[F_CODE]
  local of_reason = code ~= '' and string.match(permitted, ' ' .. code .. '=(%d+)')
  return tonumber(of_reason or string.match(permitted, '^%d+')) or 0
end

-- The agent knows only that a command was cancelled; what cancelled it may have given a code. Returns whether it has.
local function take_reason_of_cancel(into, fields, status)
  if status ~= 'cancelled' or fields[F_CANCEL_CODE] == '' then return false end
  into[F_CODE], into[F_MESSAGE] = fields[F_CANCEL_CODE], fields[F_CANCEL_MESSAGE]
  return true
end

-- Keeps a report that came after the end, beside the result. Returns the outcome: 'stored' if it is the result that is
-- stored, reported again because its acknowledgement was lost.
local function keep_late(batch, id, fields, args, i, retention_ms)
  local late = {}
  for f = 1, F_RARE_END do late[f] = fields[f] end
  late[F_STATUS], late[F_CODE], late[F_MESSAGE] = args[i + 3], args[i + 4], args[i + 5]
  take_reason_of_cancel(late, fields, args[i + 3])
  local output_bytes = output_bytes_of(fields, args[i + 7])
  if fields[F_LEASE_ID] == args[i + 2] and fields[F_STATUS] == args[i + 3] then
    local finished = tonumber(server.call('HGET', status_key(id), 'finished_ms'))
    if finished and server.call('GET', result_key(id))
      == result_json(id, late, args[i + 6], output_bytes, rfc3339(finished)) then
      return 'stored'
    end
  end
  server.call('SET', late_result_key(id),
    result_json(id, late, args[i + 6], output_bytes, rfc3339(batch.now)), 'PX', retention_ms)
  add_event(batch, id, '{"event":"late","agent_id":"' .. fields[F_AGENT_ID] .. '","reported":"' .. args[i + 3] .. '"}',
    'late')
  return 'late'
end

-- Requeues a command whose run failed transiently. Returns false if it must not run again.
local function run_again(batch, id, fields, lease_id, delay_ms, output_bytes)
  if delay_ms == '' or fields[F_CANCEL_MS] ~= '' then return false end
  read_request(id, fields)
  local runs = number(fields, F_RUNS) + 1
  if runs >= runs_permitted(fields) then return false end
  -- An agent that received the command again while it ran has the same run under the later lease.
  local counted = lease_id == fields[F_LEASE_ID] and lease_id or lease_id .. ' ' .. fields[F_LEASE_ID]
  set_rare(id, 'runs', runs, 'counted_lease', counted, 'output_bytes', whole(output_bytes))
  clear_given_up(id, fields)
  if fields[F_STATUS] == 'queued' then leave_queue(batch, id, fields) end
  release_command(batch, id, fields, tonumber(delay_ms))
  return true
end

local function accept(batch, id, fields, args, i, retention_ms, said)
  fields[F_CODE], fields[F_MESSAGE] = args[i + 4], args[i + 5]
  local of_cancel = take_reason_of_cancel(fields, fields, args[i + 3])
  local output_bytes = output_bytes_of(fields, said)
  if run_again(batch, id, fields, args[i + 2], args[i + 8], output_bytes) then return 'run_again' end
  finish_command(batch, id, fields, args[i + 3], retention_ms, args[i + 6], output_bytes,
    args[i + 12] == 'survived' and 'could_not_stop' or 'stopped')
  local row = {'stored', fields[F_REVISION], fields[F_TYPE], fields[F_PRIORITY], fields[F_ATTEMPT], fields[F_QUEUED_US],
    fields[F_ASSIGNED_MS], fields[F_SENT_MS], fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS], fields[F_CANCEL_MS],
    fields[F_PARAMS_SUMMARY], fields[F_CANCEL_STAGE], fields[F_REQUESTED_BY]}
  if of_cancel then add(row, fields[F_CODE], fields[F_MESSAGE]) end
  return row
end

-- A cancel did not find the command under this lease. It ends once no other lease is left under which it may run.
-- Returns nil if it is to end now, else the outcome.
local function absent(batch, id, fields, args, i, retention_ms)
  local doubtful, known = in_doubt(fields), forget_lease(id, fields, args[i + 2])
  local current = fields[F_LEASE_ID] == args[i + 2] and among(args[5], fields[F_STATUS])
  if fields[F_CANCEL_MS] == '' or not (current or (doubtful and known)) then return 'stale' end
  -- An agent that has acknowledged a command holds it under no other lease.
  local open = fields[F_ACKNOWLEDGED_MS] ~= '' and 'none' or given_up_state(fields)
  if open == 'none' then
    fields[F_LEASE_ID] = args[i + 2]
    return nil
  end
  if not doubtful then doubt(batch, id, fields, retention_ms) end
  return 'open'
end

local function finish_one(batch, args, i, retention_ms)
  local id, lease_id = args[i], args[i + 2]
  local fields = read(id)
  if not fields then return 'unknown' end
  if fields[F_AGENT_ID] ~= args[i + 1] then return 'foreign' end
  if args[i + 12] == 'absent' then
    local outcome = FINAL[fields[F_STATUS]] and 'late' or absent(batch, id, fields, args, i, retention_ms)
    if outcome then return outcome end
  end
  local ran = args[i + 12] == 'ran' or args[i + 12] == 'survived'
  if fields[F_LEASE_ID] == lease_id and among(args[5], fields[F_STATUS]) then
    fill_receipts(fields, args[i + 9], args[i + 10], args[i + 11])
    if ran and in_doubt(fields) then fill_start(batch, fields) end
    return accept(batch, id, fields, args, i, retention_ms, args[i + 7])
  end
  if FINAL[fields[F_STATUS]] then
    return keep_late(batch, id, fields, args, i, retention_ms)
  end
  -- Reported again because the acknowledgement was lost.
  if is_counted(fields, lease_id) and args[i + 8] ~= '' and fields[F_STARTED_MS] == '' then
    return 'run_again'
  end
  if not ran or not among(args[6], fields[F_STATUS]) or is_counted(fields, lease_id) then return 'stale' end
  local base, attempt = base_of_given_up(fields, lease_id)
  if not base then return 'stale' end
  show_attempt(batch, id, fields, attempt)
  fill_receipts(fields, args[i + 9], args[i + 10], args[i + 11])
  fill_start(batch, fields)
  fields[F_OUTPUT_BASE] = base
  -- Besides what is stored, its agent may hold back a window of output, which was not accepted under this lease.
  local most = number(fields, F_OUTPUT_BYTES) - base + OUTPUT_WINDOW
  local outcome = accept(batch, id, fields, args, i, retention_ms, math.min(args[i + 7], most))
  -- The same report again is then known as such.
  if outcome ~= 'run_again' then set_rare(id, 'lease_id', lease_id, 'output_base', whole(base)) end
  return outcome
end

local function finish(batch, args)
  local retention_ms = args[4]
  local outcomes, seen = {batch.now}, {}
  for i = HEADER + 1, #args, ITEM do
    -- A second report of a command finds the indexes as the first has left them.
    if seen[args[i]] then write(batch) end
    seen[args[i]] = true
    outcomes[#outcomes + 1] = finish_one(batch, args, i, retention_ms)
  end
  return outcomes
end

register('finish', finish, {'allow-oom'}, 'finished')

end

do
local function late_result_key(command_id) return 'cmd:late:' .. named(command_id) end
local function output_key(command_id) return 'command:output:' .. named(command_id) end
local function agent_commands_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':commands' end
local function agents_key() return SHARD .. 'agents' end
-- Purpose: delete commands past their retention, and remove agents with expired sessions from the index.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, maximum commands, maximum agents, agent id to continue after
--          ('' to start), retention_ms
-- Returns  {commands deleted, agents removed, agent id to continue after ('' at the end)}
-- Invariants: only commands that have ended are deleted, in the order in which they ended, with all their keys.

local function forget_commands(batch, limit, retention_ms)
  local ids = server.call('LRANGE', ended_key(), 0, limit - 1)
  local names, count = {}, 0
  for _, id in ipairs(ids) do
    local fields = server.call('HMGET', status_key(id), 'finished_ms', 'agent_id', 'status')
    if fields[1] and fields[1] + retention_ms > batch.now then break end
    count = count + 1
    -- The index check completes and lists again what lacks one of them.
    if fields[1] and fields[2] and fields[3] then
      local n = #names
      names[n + 1], names[n + 2] = status_key(id), agent_command_key(fields[2], id)
      names[n + 3], names[n + 4], names[n + 5] = result_key(id), late_result_key(id), output_key(id)
      unindex(batch, agent_commands_key(fields[2]), id)
      unindex(batch, by_status_key(fields[3]), id)
    end
  end
  if #names > 0 then server.call('UNLINK', unpack(names)) end
  if count > 0 then server.call('LTRIM', ended_key(), count, -1) end
  return count
end

local function forget_agents(batch, limit, after)
  local agents = server.call('ZRANGEBYLEX', agents_key(), after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
  local gone = 0
  for _, agent_id in ipairs(agents) do
    if server.call('EXISTS', session_key(agent_id), ready_key(agent_id), control_key(agent_id),
      delayed_key(agent_id), assigned_key(agent_id)) == 0 then
      unindex(batch, agents_key(), agent_id)
      gone = gone + 1
    end
  end
  return gone, #agents == limit and agents[#agents] or ''
end

local function forget(batch, args)
  local count = forget_commands(batch, tonumber(args[4]), tonumber(args[7]))
  local gone, next_after = forget_agents(batch, tonumber(args[5]), args[6])
  return {count, gone, next_after}
end

register('forget', forget, {'allow-oom'})

end

do
local function late_result_key(command_id) return 'cmd:late:' .. named(command_id) end
-- Purpose: read everything about one command, and the presence of its agent.
-- KEYS     the event stream of the shard
-- ARGV     id
-- Returns  false if unknown, else {now_ms, the command or false, bytes of its output so far,
--          {connected, last_seen_ms, away_since_ms} of its agent's session, row, attempts that have ended,
--          when it gave its last sign of life in ms, if its agent reports it as silent, or 0, extended time limit in
--          ms or '', its late result or false}
-- Invariants: all parts are from the same moment.

local SIGN_SLACK_MS = 1000

-- `signs` is `id=ms,` for each silent command of the agent. A sign before the start is of an earlier attempt.
local function last_sign(signs, id, row)
  local _, place = string.find(signs or '', id .. '=', 1, true)
  local ms = place and tonumber(string.match(signs, '^%d+', place + 1))
  local started = tonumber(row[ROW_STARTED_MS] or '')
  return not FINAL[row[ROW_STATUS]] and ms and started and ms >= started - SIGN_SLACK_MS and ms or 0
end

local function get_command(args)
  local id = args[1]
  local row = server.call('HMGET', status_key(id), unpack(ROW_FIELDS))
  if not row[ROW_STATUS] then return false end
  -- It may be damaged, and wait for the index check.
  local agent_id = row[ROW_AGENT_ID] or ''
  local stored = server.call('MGET', command_key(id), agent_command_key(agent_id, id))
  -- While the command is alive, the second name only marks that the agent has it.
  local command = stored[1] or (FINAL[row[ROW_STATUS]] and stored[2])
  local rare = server.call('HMGET', status_key(id), 'output_bytes', 'attempts', 'extended_ms')
  local output_bytes = tonumber(rare[1]) or 0
  local session = server.call('HMGET', session_key(agent_id), 'connected', 'last_seen_ms', 'away_since_ms', 'signs')
  local sign_ms = last_sign(table.remove(session), id, row)
  return {new_batch().now, command, output_bytes, session, row, rare[2] or '', sign_ms, rare[3] or '',
    server.call('GET', late_result_key(id))}
end

register_reader('get_command', get_command)

end

do

-- Purpose: record what agents say of emergency stops.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep;
--          then for each agent: agent_id, epoch, its report as JSON ('' if it has resumed)
-- Returns  for each agent: 1, or 0 if the session is no longer the latest
-- Invariants: only the latest session reports.

local HEADER, ITEM = 3, 3

local function halted(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local key = session_key(args[i])
    local latest = server.call('HGET', key, 'epoch') == args[i + 1]
    if latest then
      server.call('HSET', key, 'halted', args[i + 2])
      announce_agent(batch, args[i], args[i + 1], server.call('HINCRBY', key, 'revision', 1), 'true')
    end
    outcomes[#outcomes + 1] = latest and 1 or 0
  end
  return outcomes
end

register('halted', halted, {'allow-oom'})

end

do

-- Purpose: renew the sessions of agents after a heartbeat.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, session_ttl_ms;
--          then for each agent: agent_id, epoch, its vitals as JSON ('' if they have not changed), its silent commands
--          ('' if none fell silent or gave a sign of life since)
-- Returns  for each agent: 1, or 0 if the session is no longer the latest
-- Invariants: a superseded session is never renewed; only changed vitals cause an event.

local HEADER, ITEM = 4, 4

-- `silences` is `id=ms,` for each silent command, or ',' if there is none any more.
-- Replaces how long each has been silent by when it gave its last sign of life.
local function last_signs(silences, now)
  return (string.gsub(silences, '=(%d+)', function(ms) return '=' .. whole(now - tonumber(ms)) end))
end

local function heartbeat(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local key = session_key(args[i])
    local session = server.call('HMGET', key, 'epoch', 'connected')
    if session[1] == args[i + 1] and session[2] == '1' then
      if args[i + 2] == '' then
        server.call('HSET', key, 'last_seen_ms', batch.stamp)
      else
        server.call('HSET', key, 'last_seen_ms', batch.stamp, 'vitals', args[i + 2])
        announce_agent(batch, args[i], args[i + 1], server.call('HINCRBY', key, 'revision', 1), 'true')
      end
      if args[i + 3] ~= '' then server.call('HSET', key, 'signs', last_signs(args[i + 3], batch.now)) end
      server.call('PEXPIRE', key, args[4])
      outcomes[#outcomes + 1] = 1
    else
      outcomes[#outcomes + 1] = 0
    end
  end
  return outcomes
end

register('heartbeat', heartbeat, {'allow-oom'})

end

do

-- Purpose: look at a page of an index for entries that `check_indexes` has to check.
-- KEYS     the event stream of the shard
-- ARGV     name of the index in keys.py, its key, the agent_id or status or principal that the key names ('' if none),
--          cursor ('0' to start), entries to look at
-- Returns  {cursor to continue at ('0' at the end); four texts for each suspect: an item of `check_indexes`, or
--          'wrong_type', the key, '', ''}
-- Invariants: finds each entry whose record is lost, or has another agent or a status that does not belong there. What
--          is found may be right.

local IS_SET = {delayed = true, assigned = true, caller_commands = true}

-- Whether an entry belongs into the index, by its record. A status of a later version belongs anywhere.
local FITS = {}

function FITS.by_status(key, status)
  local found = ask('HGET', key, 'status')
  return found == status or is_unknown(found)
end

function FITS.deadlines(key)
  local status = ask('HGET', key, 'status')
  return status and not FINAL[status]
end

function FITS.agent_commands(key, agent_id)
  return ask('HGET', key, 'agent_id') == agent_id
end

local function has(key, status, agent_id, is_control)
  local record = ask('HMGET', key, 'status', 'agent_id', 'type')
  if not record then return false end
  if is_unknown(record[1]) then return true end
  return record[1] == status and record[2] == agent_id
    and (is_control == nil or (CONTROL_TYPES[record[3]] or false) == is_control)
end

function FITS.ready(key, agent_id) return has(key, 'queued', agent_id, false) end
function FITS.control(key, agent_id) return has(key, 'queued', agent_id, true) end
function FITS.delayed(key, agent_id) return has(key, 'queued', agent_id) end
function FITS.assigned(key, agent_id) return has(key, 'assigned', agent_id) end

function FITS.caller_commands(key, principal)
  local record = ask('HMGET', key, 'status', 'requested_by')
  if not record then return false end
  return is_unknown(record[1])
    or record[1] and not FINAL[record[1]] and record[2] and principal_of(record[2]) == principal
end

local function suspect(suspects, where, key, id, agent_id)
  add(suspects, where, key)
  add(suspects, id, agent_id)
end

local function inspect_index(args)
  local name, key, of = args[1], args[2], args[3]
  local step = IS_SET[name] and 1 or 2
  local scanned = ask(IS_SET[name] and 'SSCAN' or 'ZSCAN', key, args[4], 'COUNT', args[5])
  if not scanned then return {'0', {'wrong_type', key, '', ''}} end
  local is_callers = name == 'caller_commands'
  local fits, suspects, agent_id = FITS[name], {}, (name == 'by_status' or is_callers) and '' or of
  for i = 1, #scanned[2], step do
    local id = scanned[2][i]
    if not fits(status_key(id), of) then
      suspect(suspects, is_callers and 'caller' or IS_SET[name] and 'set' or 'zset', key, id, agent_id)
      suspect(suspects, 'record', status_key(id), id, agent_id)
      -- inspect_keys relies on this index.
      if name == 'agent_commands' then suspect(suspects, 'key', agent_command_key(of, id), id, agent_id) end
    end
  end
  return {scanned[1], suspects}
end

register_reader('inspect_index', inspect_index)

end

do
local function output_key(command_id) return 'command:output:' .. named(command_id) end
local function agent_commands_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':commands' end
local function agents_key() return SHARD .. 'agents' end
-- Purpose: look at a page of all keys for what `check_indexes` has to check; names the indexes of agents as well.
-- KEYS     the event stream of the shard
-- ARGV     cursor ('0' to start), keys to look at
-- Returns  {cursor to continue at ('0' at the end); four texts for each suspect: an item of `check_indexes`, or
--          'wrong_type', the key, '', ''; three for each index: its name in keys.py, the key, the agent_id or
--          principal}
-- Invariants: all that `check_indexes` repairs is found here, or by inspect_index in an entry of the index. What is
--          found may be right. Reads little of what is right: few fields, and each index once for the whole page.

local FIELDS_CHECKED = {
  'status', 'agent_id', 'type', 'queued_us', 'revision', 'attempt', 'priority', 'time_limit_ms', 'rank', 'expires_ms',
  'queued_ms', 'finished_ms', 'rare', 'requested_by',
}
-- Together with those above, all but the rare ones.
local FIELDS_BESIDE = {
  'assigned_ms', 'lease_id', 'sent_ms', 'acknowledged_ms', 'started_ms', 'params_summary', 'max_runs',
}
local STATUS, AGENT_ID, TYPE, REQUESTED_BY = 1, 2, 3, 14

local function count(fields, names)
  local set = 0
  for i = 1, #names do
    if fields[i] then set = set + 1 end
  end
  return set
end

local function has_rare(key, fields)
  local beside = server.call('HMGET', key, unpack(FIELDS_BESIDE))
  return server.call('HLEN', key) > count(fields, FIELDS_CHECKED) + count(beside, FIELDS_BESIDE)
end

local function is_complete(key, fields)
  local status, agent_id, kind, queued_us, revision, attempt, priority, time_limit_ms, rank, expires_ms, queued_ms,
    finished_ms, rare = unpack(fields)
  return TRANSITIONS[status] and agent_id and agent_id ~= '' and kind and kind ~= ''
    and tonumber(queued_us) and tonumber(revision) and tonumber(attempt) and tonumber(priority)
    and tonumber(time_limit_ms) and tonumber(rank) and tonumber(expires_ms) and queued_ms
    and (finished_ms or not FINAL[status])
    and (status ~= 'assigned' or tonumber(server.call('HGET', key, 'assigned_ms')))
    and (rare and rare ~= '' or not has_rare(key, fields))
end

local function suspect(page, where, key, id, hint)
  add(page.suspects, where, key)
  add(page.suspects, id, hint)
end

local function suspect_record(page, id)
  if not page.suspected[id] then
    page.suspected[id] = true
    suspect(page, 'record', status_key(id), id, '')
  end
end

local function must_exist(page, key, id)
  add(page.must_exist, key, id)
end

-- Whether it is neither ready nor delayed, or both.
local function is_misqueued(fields, id)
  local agent_id = fields[AGENT_ID]
  local queue = (CONTROL_TYPES[fields[TYPE]] and control_key or ready_key)(agent_id)
  local is_ready = ask('ZSCORE', queue, id) and 1 or 0
  return is_ready + (ask('SISMEMBER', delayed_key(agent_id), id) or 0) ~= 1
end

local LOOK = {}

function LOOK.status(page, key, id)
  local fields = ask('HMGET', key, unpack(FIELDS_CHECKED))
  if not fields then return suspect(page, 'wrong_type', key, '', '') end
  local status, agent_id = fields[STATUS], fields[AGENT_ID]
  if is_unknown(status) then return end
  if not is_complete(key, fields) then return suspect_record(page, id) end
  append(page.scored, by_status_key(status), id)
  append(page.scored, agent_commands_key(agent_id), id)
  if FINAL[status] then return end
  append(page.scored, deadlines_key(), id)
  local caller = index_of_caller(fields[REQUESTED_BY] or '')
  if caller then append(page.members, caller, id) end
  must_exist(page, agent_command_key(agent_id, id), id)
  if status == 'assigned' then
    append(page.members, assigned_key(agent_id), id)
  else
    must_exist(page, command_key(id), id)
    if is_misqueued(fields, id) then suspect_record(page, id) end
  end
end

-- If the index of the agent has the command, inspect_index compares the agent with that of the record.
function LOOK.agent_command(page, key, id, agent_id)
  if not ask('STRLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  append(page.marks, agent_id, id)
end

function LOOK.command(page, key, id)
  if not ask('STRLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  local status = ask('HGET', status_key(id), 'status')
  if not status then suspect(page, 'key', key, id, '') end
  if FINAL[status] then suspect_record(page, id) end
end

function LOOK.output(page, key, id)
  if not ask('LLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  add(page.outputs, status_key(id), id)
end

local function look_at_session(page, key, agent_id)
  if not ask('HLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  if not ask('ZSCORE', agents_key(), agent_id) then suspect(page, 'session', key, agent_id, agent_id) end
end

-- Nothing depends on these, and they have a TTL.
function LOOK.result() end
LOOK.late_result = LOOK.result

local function match(name, patterns)
  for i = 1, #patterns do
    local first, second = string.match(name, patterns[i][2])
    if first then return patterns[i][1], first, second end
  end
end

local function look_at_other(page, key)
  if string.sub(key, 1, #SHARD) ~= SHARD then return end
  local kind, agent_id = match(string.sub(key, #SHARD + 1), NAMES_OF_A_SHARD)
  if kind == 'session' then
    look_at_session(page, key, agent_id)
  elseif kind then
    page.indexes[#page.indexes + 1] = {kind, key, agent_id}
  end
end

-- The id that `named` has given this name; nil if it is of another shard.
local function id_of(name)
  if SHARD == '' then return name end
  if string.sub(name, 1, #SHARD) ~= SHARD then return nil end
  return string.sub(name, #SHARD + 1, #SHARD + 1) == '.' and string.sub(name, #SHARD + 2) or name
end

-- Keys of commands differ in what follows the last colon, so that what precedes it is matched once.
local function look(page, key)
  local head, name = string.match(key, '^(.*:)([^:]+)$')
  if not head then return end
  local known = page.heads[head]
  if not known then
    local kind, first, second = match(key, NAMES_OF_A_COMMAND)
    known = {LOOK[kind], second and first or ''}
    page.heads[head] = known
  end
  if not known[1] then return look_at_other(page, key) end
  local id = id_of(name)
  if id then known[1](page, key, id, known[2]) end
end

-- The records that an index lacks, with one call for each index.
local function check_lists(page, command, lists, lacks)
  for key, ids in pairs(lists) do
    local found = ask(command, key, unpack(ids))
    for i = 1, #ids do
      if not found or found[i] == lacks then suspect_record(page, ids[i]) end
    end
  end
end

local function check_marks(page)
  for agent_id, ids in pairs(page.marks) do
    local found = ask('ZMSCORE', agent_commands_key(agent_id), unpack(ids))
    for i = 1, #ids do
      if not found or not found[i] then
        suspect(page, 'key', agent_command_key(agent_id, ids[i]), ids[i], agent_id)
      end
    end
  end
end

-- The ids of those keys that do not exist, in a list of keys and ids. Usually, one call shows that all do.
local function lost(keys_and_ids)
  local keys, ids = {}, {}
  for i = 1, #keys_and_ids, 2 do
    keys[#keys + 1] = keys_and_ids[i]
  end
  if #keys == 0 or server.call('EXISTS', unpack(keys)) == #keys then return ids end
  for i = 1, #keys_and_ids, 2 do
    if server.call('EXISTS', keys_and_ids[i]) == 0 then ids[#ids + 1] = keys_and_ids[i + 1] end
  end
  return ids
end

local function inspect_keys(args)
  local scanned = server.call('SCAN', args[1], 'COUNT', args[2])
  local page = {
    suspects = {}, indexes = {}, suspected = {}, heads = {}, scored = {}, members = {}, marks = {}, must_exist = {},
    outputs = {},
  }
  for _, key in ipairs(scanned[2]) do look(page, key) end
  check_lists(page, 'ZMSCORE', page.scored, false)
  check_marks(page)
  check_lists(page, 'SMISMEMBER', page.members, 0)
  for _, id in ipairs(lost(page.must_exist)) do suspect_record(page, id) end
  for _, id in ipairs(lost(page.outputs)) do suspect(page, 'key', output_key(id), id, '') end
  table.sort(page.indexes, function(one, other) return one[2] < other[2] end)
  return {scanned[1], page.suspects, page.indexes}
end

register_reader('inspect_keys', inspect_keys)

end

do
local function agent_commands_key(agent_id) return SHARD .. 'agent:' .. agent_id .. ':commands' end
-- Purpose: one page of commands, newest first.
-- KEYS     the event stream of the shard
-- ARGV     agent_id or '', statuses (comma separated), type or '', queued from (us, inclusive) or '-inf', queued until
--          (us, exclusive) or '+inf', last seen arrival (us) or '', last seen id or '', page size, maximum commands to
--          scan
-- Returns  {arrival and id to continue after ('' and '' at the end), then for each command {row..., arrival, id}}
-- Invariants: scans a bounded number of commands, so a page may be short or empty and still have a next one.

local READ_AT_ONCE = 200

-- Commands of one index in order, read in parts.
local function new_source(key, range)
  return {key = key, range = range, read = 0, at = 1, found = {}}
end

-- Arrival and id of the first command of a source, nil at its end.
local function head(source)
  if source.at > #source.found and not source.at_end then
    source.found = server.call('ZREVRANGEBYSCORE', source.key, source.range.upper, source.range.lower, 'WITHSCORES',
      'LIMIT', source.read, READ_AT_ONCE)
    source.read = source.read + READ_AT_ONCE
    source.at_end = #source.found < 2 * READ_AT_ONCE
    source.at = 1
  end
  local id = source.found[source.at]
  if id then return tonumber(source.found[source.at + 1]), id end
end

-- Takes the newest command of all sources; nil at the end.
local function take_newest(sources)
  local newest, arrival, id
  for _, source in ipairs(sources) do
    local score, member = head(source)
    if score and (not newest or score > arrival or (score == arrival and member > id)) then
      newest, arrival, id = source, score, member
    end
  end
  if newest then newest.at = newest.at + 2 end
  return arrival, id
end

-- The smallest set of indexes that contains every match, each once.
local function sources_for(agent_id, statuses, range)
  if agent_id ~= '' then
    local by_agent = agent_commands_key(agent_id)
    local by_status = not string.find(statuses, ',', 1, true) and by_status_key(statuses)
    if by_status and server.call('ZCARD', by_status) < server.call('ZCARD', by_agent) then
      return {new_source(by_status, range)}
    end
    return {new_source(by_agent, range)}
  end
  local sources = {}
  for status in string.gmatch(statuses, '[^,]+') do
    sources[#sources + 1] = new_source(by_status_key(status), range)
  end
  return sources
end

local function list_commands(args)
  local agent_id, statuses, kind, last_arrival, last_id = args[1], args[2], args[3], args[6], args[7]
  local range = {lower = args[4], upper = args[5] == '+inf' and '+inf' or '(' .. args[5]}
  if last_arrival ~= '' then range.upper = last_arrival end
  local page_size, max_scanned = tonumber(args[8]), tonumber(args[9])
  local sources = sources_for(agent_id, statuses, range)
  local page, scanned = {'', ''}, 0
  local arrival, id = take_newest(sources)
  while arrival do
    -- Commands that arrived in the same microsecond as the last one seen may have been seen.
    if whole(arrival) ~= last_arrival or id < last_id then
      local row = server.call('HMGET', status_key(id), unpack(ROW_FIELDS))
      if row[ROW_STATUS] and (agent_id == '' or row[ROW_AGENT_ID] == agent_id)
        and (kind == '' or row[ROW_TYPE] == kind) and listed(statuses, row[ROW_STATUS]) then
        row[#ROW_FIELDS + 1], row[#ROW_FIELDS + 2] = whole(arrival), id
        blank(row, 1, #ROW_FIELDS)
        page[#page + 1] = row
      end
      page[1], page[2] = whole(arrival), id
    end
    scanned = scanned + 1
    arrival, id = take_newest(sources)
    if arrival and (#page - 2 == page_size or scanned == max_scanned) then return page end
  end
  page[1], page[2] = '', ''
  return page
end

register_reader('list_commands', list_commands)

end

do

-- Purpose: check whether Valkey accepts writes. Changes nothing.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep
-- Returns  1; an error if Valkey rejects functions that write: it cannot save, or lacks required replicas
-- Invariants: succeeds on a full Valkey, like every function that lets a command end.

local function probe(batch, args)
  return 1
end

register('probe', probe, {'allow-oom'})

end

do

-- Purpose: record that an agent has acknowledged or started commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, and milliseconds from the claim to: sent, acknowledged,
--          started ('' if unknown, 'past' if it has started at an unknown time)
-- Returns  for each command: 'ok', or 'gone' if this lease no longer holds it
-- Invariants: a receipt is written once; from then on the deadline is the run limit. A command in doubt goes on under
--             the lease that its agent reports on.

local HEADER, ITEM = 5, 6

local function progress(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and among(args[5], fields[F_STATUS])
      and (fields[F_LEASE_ID] == args[i + 2]
        or (in_doubt(fields) and goes_on_under(batch, id, fields, args[i + 2]))) then
      local acknowledged, started = fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS]
      local doubtful = in_doubt(fields)
      if args[i + 5] == 'past' then
        fill_start(batch, fields)
      else
        fill_receipts(fields, args[i + 3], args[i + 4], args[i + 5])
      end
      -- Receipts of an attempt that was given up are not known, but that its agent has it is.
      if doubtful and fields[F_ACKNOWLEDGED_MS] == '' then fields[F_ACKNOWLEDGED_MS] = batch.stamp end
      if fields[F_ACKNOWLEDGED_MS] ~= acknowledged or fields[F_STARTED_MS] ~= started then
        server.call('HSET', status_key(id), 'revision', revise(fields), 'sent_ms', fields[F_SENT_MS],
          'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'started_ms', fields[F_STARTED_MS])
        local settled = doubtful and ',"assigned_ms":' .. fields[F_ASSIGNED_MS] .. settle_doubt(id, fields) or ''
        index(batch, deadlines_key(), run_limit(batch, id, fields, tonumber(args[4])), id)
        announce(batch, fields[F_STARTED_MS] ~= started and 'started' or 'acknowledged', id, fields,
          receipt_members(fields) .. settled)
      end
      outcomes[#outcomes + 1] = 'ok'
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  return outcomes
end

register('progress', progress, {'allow-oom'})

end

do

-- Purpose: read what is known about agents, and count what they have.
-- KEYS     the event stream of the shard
-- ARGV     fields of a session (comma separated);
--          then for each agent: its id
-- Returns  {now_ms, then for each agent {{fields}, commands that it was given and has not ended, slots that these use,
--          commands in its queue}}
-- Invariants: changes nothing.

local HEADER = 1

-- How many commands an agent was given, and the slots that they use: none for control commands.
local function assigned_and_slots(agent_id)
  local ids = server.call('SMEMBERS', assigned_key(agent_id))
  local slots = 0
  for _, id in ipairs(ids) do
    local fields = server.call('HMGET', status_key(id), 'slots', 'type')
    if not CONTROL_TYPES[fields[2] or ''] then slots = slots + (tonumber(fields[1] or '') or 1) end
  end
  return #ids, slots
end

local function read_agents(args)
  local names = {}
  for name in string.gmatch(args[1], '[^,]+') do names[#names + 1] = name end
  local reply = {new_batch().now}
  for i = HEADER + 1, #args do
    local agent_id = args[i]
    local assigned, slots = assigned_and_slots(agent_id)
    reply[#reply + 1] = {server.call('HMGET', session_key(agent_id), unpack(names)), assigned, slots,
      server.call('ZCARD', ready_key(agent_id)) + server.call('ZCARD', control_key(agent_id))
      + server.call('SCARD', delayed_key(agent_id))}
  end
  return reply
end

register_reader('read_agents', read_agents)

end

do
local function output_key(command_id) return 'command:output:' .. named(command_id) end
-- Purpose: read output of a command from an offset on.
-- KEYS     the event stream of the shard
-- ARGV     id, offset, bytes that are enough
-- Returns  the head and the data of each piece, beginning with the first that ends beyond the offset; none at the end
-- Invariants: at least one piece if there is any; no more than MAX_PIECES, whatever their size.

local MAX_PIECES = 256

local function read_output(args)
  local key, offset, enough = output_key(args[1]), tonumber(args[2]), tonumber(args[3])
  local count = floor(server.call('LLEN', key) / 2)
  -- Most readers follow, and have all but the latest piece.
  if count == 0 or output_end(key, count - 1) <= offset then return {} end
  local first = first_output_beyond(key, 0, count - 1, offset)
  local last = first_output_beyond(key, first, math.min(count, first + MAX_PIECES) - 1, offset + enough - 1)
  return server.call('LRANGE', key, 2 * first, 2 * last + 1)
end

register_reader('read_output', read_output)

end

do

-- Purpose: requeue commands that an agent did not start: refused as busy or stale, or never sent.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, delivery attempts, retention_ms, slack_ms added to the time
--          limit, sources of release;
--          then for each command: id, agent_id, lease id, delay_ms, reason code, reason message, counts ('0' if it must
--          not count as a delivery attempt), word ('refused' if the agent said that nothing of the command runs,
--          'unsent' if its stream never carried this attempt, '' if it may have it)
-- Returns  for each command: the new state (queued, failed, cancelled; assigned if its agent may run an earlier
--          attempt), or 'gone' if this lease no longer holds it, or its agent has started it
-- Invariants: a released command keeps its place in the queue; none is cancelled or failed that may be running.

local HEADER, ITEM = 7, 8

-- Whether this lease holds the command; in doubt, any lease that the agent may have: then only a word on it changes
-- what is known. Only the agent itself can give back a command that it has acknowledged.
local function holds(id, fields, lease_id, word)
  if fields[F_ACKNOWLEDGED_MS] ~= '' and word ~= 'refused' then return false end
  if not in_doubt(fields) then return fields[F_LEASE_ID] == lease_id end
  return word ~= '' and (forget_lease(id, fields, lease_id) or fields[F_LEASE_ID] == lease_id)
end

local function release(batch, args)
  local outcomes = {}
  local policy = {attempts = tonumber(args[4]), retention_ms = args[5], slack_ms = tonumber(args[6])}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and among(args[7], fields[F_STATUS])
      and fields[F_STARTED_MS] == '' and holds(id, fields, args[i + 2], args[i + 7]) then
      if args[i + 6] == '0' then
        fields[F_UNCOUNTED] = number(fields, F_UNCOUNTED) + 1
        set_rare(id, 'uncounted', fields[F_UNCOUNTED])
      end
      local reason = {code = args[i + 4], message = args[i + 5]}
      outcomes[#outcomes + 1] = release_or_give_up(batch, id, fields, reason, tonumber(args[i + 3]), policy,
        args[i + 7])
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  return outcomes
end

register('release', release, {'allow-oom'})

end

do
local function generations_key() return SHARD .. 'agents:generations' end
-- Purpose: let the credentials of a revoked agent count again.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, agent_id
-- Returns  'ok'; 'unknown' if the agent is not revoked; 'replaced' if it has enrolled again since
-- Invariants: earlier enrolments of an agent that has enrolled again never count, nor do its tokens.

local function restore_agent(batch, args)
  local field = 'agent' .. ':' .. args[4]
  local entry = server.call('HGET', revocations_key(), field)
  if not entry then return 'unknown' end
  if cjson.decode(entry).revoked_by == '' then return 'replaced' end
  local generation = tonumber(server.call('HGET', generations_key(), args[4]) or 0)
  if generation > 1 then
    note_replaced(batch, args[4], generation - 1)
  else
    server.call('HDEL', revocations_key(), field)
    server.call('INCR', revocations_version_key())
  end
  return 'ok'
end

register('restore_agent', restore_agent, {'allow-oom'})

end

do

-- Purpose: let what a revoked service was issued before count again.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, name of the service
-- Returns  'ok'; 'unknown' if the service is not revoked
-- Invariants: nothing else changes.

local function restore_service(batch, args)
  if server.call('HDEL', revocations_key(), 'service' .. ':' .. args[4]) == 0 then return 'unknown' end
  server.call('INCR', revocations_version_key())
  return 'ok'
end

register('restore_service', restore_service, {'allow-oom'})

end

do
local function stops_key() return SHARD .. 'stops' end
-- Purpose: end emergency stops.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep;
--          then for each stop: its id
-- Returns  for each stop: its JSON, or '' if it is not in force
-- Invariants: queued commands of agents for which no other stop is in force can be claimed again.

local HEADER, ITEM = 3, 1

local function resume(batch, args)
  local ended = {}
  for i = HEADER + 1, #args, ITEM do
    local text = server.call('HGET', stops_key(), args[i])
    if text then
      server.call('HDEL', stops_key(), args[i])
      add_event(batch, args[i], '{"event":"stops"}', 'stops')
    end
    ended[#ended + 1] = text or ''
  end
  return ended
end

register('resume', resume, {'allow-oom'})

end

do

-- Purpose: read the list of revocations if it has changed.
-- KEYS     the event stream of the shard
-- ARGV     the version that the reader has
-- Returns  {version} if it is that, or {version, then for each entry: 'agent', 'service' or 'token', ':' and its id,
--          the entry as JSON}
-- Invariants: changes nothing.

local function revocations(args)
  local version = server.call('GET', revocations_version_key()) or '0'
  if version == args[1] then return {version} end
  local reply = server.call('HGETALL', revocations_key())
  table.insert(reply, 1, version)
  return reply
end

register_reader('revocations', revocations)

end

do
local function enrolment_token_key(token_id) return SHARD .. 'enrolment:token:' .. token_id end
local function enrolment_tokens_key(agent) return SHARD .. 'enrolment:tokens:' .. agent end
local function generations_key() return SHARD .. 'agents:generations' end
-- Purpose: revoke what an agent or a service has, or a token.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, kind ('agent' or 'service' or 'token'), its id or name, who
--          revokes it, why
-- Returns  the entry of the list as JSON
-- Invariants: an agent's later enrolments count, but not with tokens that were made for it alone before; a revoked
--          enrolment token serves no more; what a service is issued later counts.

local function revoke(batch, args)
  local kind, subject = args[4], args[5]
  if kind == 'agent' then
    local tokens = enrolment_tokens_key(subject)
    for _, token_id in ipairs(server.call('SMEMBERS', tokens)) do
      server.call('DEL', enrolment_token_key(token_id))
    end
    server.call('DEL', tokens)
    local generation = server.call('HGET', generations_key(), subject) or '0'
    return note_revocation(batch, kind, subject, {generation = generation, revoked_by = args[6], reason = args[7]})
  end
  if kind == 'token' then server.call('DEL', enrolment_token_key(subject)) end
  return note_revocation(batch, kind, subject, {generation = '0', revoked_by = args[6], reason = args[7]})
end

register('revoke', revoke, {'allow-oom'})

end

do
local function stops_key() return SHARD .. 'stops' end
-- Purpose: put an emergency stop in force.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, stop id, scope as JSON, reason, who stops, maximum stops
-- Returns  {'ok', JSON of the stop}, the present one if the id is known; or {'too_many'}
-- Invariants: from this call on, no command but a control command is queued for agents in scope, or claimed by them. A
--          stop never changes.

local function stop(batch, args)
  local id = args[4]
  local known = server.call('HGET', stops_key(), id)
  if known then return {'ok', known} end
  if server.call('HLEN', stops_key()) >= tonumber(args[8]) then return {'too_many'} end
  local text = '{"since_ms":' .. batch.stamp .. ',"scope":' .. args[5] .. ',"reason":' .. cjson.encode(args[6])
    .. ',"stopped_by":' .. cjson.encode(args[7]) .. '}'
  server.call('HSET', stops_key(), id, text)
  add_event(batch, id, '{"event":"stops"}', 'stops')
  return {'ok', text}
end

register('stop', stop, {'allow-oom'})

end

do

-- Purpose: request the end of what agents were given for which an emergency stop is in force.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, sources of finish, reason code;
--          then for each agent: agent_id, message
-- Returns  for each agent: the number of cancels requested, -1 if no stop is in force for it
-- Invariants: as those of `cancel`. Control commands go on: they run no work.

local HEADER, ITEM = 5, 2

local function stop_commands(batch, args)
  local counts = {}
  for i = HEADER + 1, #args, ITEM do
    local count = -1
    if stop_of(args[i]) then
      count = 0
      for _, id in ipairs(server.call('SMEMBERS', assigned_key(args[i]))) do
        local fields = read(id)
        if fields and fields[F_AGENT_ID] == args[i] and among(args[4], fields[F_STATUS])
          and fields[F_CANCEL_MS] == '' and not CONTROL_TYPES[fields[F_TYPE]] then
          local doubtful = in_doubt(fields)
          request_cancel(batch, id, fields, args[i + 1], args[5])
          if doubtful then announce_doubt(batch, id, fields) end
          count = count + 1
        end
      end
    end
    counts[#counts + 1] = count
  end
  return counts
end

register('stop_commands', stop_commands, {'allow-oom'})

end
