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
