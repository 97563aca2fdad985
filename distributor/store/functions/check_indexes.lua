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
