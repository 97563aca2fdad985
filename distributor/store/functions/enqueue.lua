-- Purpose: store commands and make them ready for their agents.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, queue_limit, when_full ('refuse' | 'drop'), ageing_us per point of priority,
--          idempotency_ms, offline_after_ms, retention_ms, sources of cancel;
--          then for each command: id, agent_id, type, priority, command, params_summary or '',
--          time_limit_ms, queue_ttl_ms, offline ('queue' | 'fail'), max_runs, idempotency key or '', request digest
-- Returns  {now_ms, then for each command {outcome, command_id, agent known, agent present, away since ms or ''}};
--          outcomes: queued, already_queued (same key and request), key_taken, agent_offline, queue_full,
--          unsupported_type
-- Invariants: a refused command leaves nothing behind; an id is in ALL_COMMANDS, AGENT_COMMANDS, BY_STATUS(queued),
--          DEADLINES and READY (control commands: CONTROL), or in none of them. Control commands have a limit of
--          their own; a STOP records the instance that it is for.

local HEADER, ITEM = 9, 12

local function agent_for_queueing(agents, agent_id, now, offline_after_ms)
  local agent = agents[agent_id]
  if agent then return agent end
  local session = server.call('HMGET', session_key(agent_id), 'connected', 'last_seen_ms', 'types', 'away_since_ms',
    'instance_id')
  local present = is_present(session[1], session[2], now, offline_after_ms)
  agent = {
    known = session[1] and 1 or 0,
    present = present and 1 or 0,
    types = session[3] or '',
    away_since = not present and (session[4] or session[2]) or '',
    queued = server.call('ZCARD', ready_key(agent_id)) + server.call('SCARD', delayed_key(agent_id)),
    control_queued = server.call('ZCARD', control_key(agent_id)),
    instance_id = session[5] or '',
  }
  agents[agent_id] = agent
  return agent
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

-- Ends the lowest-ranking command of a full queue, unless all have a higher priority than the given one. Commands
-- queued by this call are not in the index yet, so it never drops them.
local function drop_one(batch, agent, agent_id, priority, cancel_sources, retention_ms)
  agent.droppable = agent.droppable or droppable(agent_id)
  local least = agent.droppable[#agent.droppable]
  if not least or least.priority > priority then return false end
  agent.droppable[#agent.droppable] = nil
  local fields = read(least.id)
  if not fields or not among(cancel_sources, fields[F_STATUS]) then return false end
  fields[F_CODE] = 'queue_overflow'
  fields[F_MESSAGE] = 'pushed out of a full queue by a newer command of the same or a higher priority'
  finish_command(batch, least.id, fields, 'cancelled', retention_ms, '', number(fields, F_OUTPUT_BYTES))
  agent.queued = agent.queued - 1
  return true
end

local function enqueue(keys, args)
  local batch = new_batch(args[1])
  local queue_limit, when_full, ageing_us = tonumber(args[3]), args[4], tonumber(args[5])
  local agents, outcomes = {}, {batch.now}
  local order = 0
  for i = HEADER + 1, #args, ITEM do
    local id, agent_id, kind, priority = args[i], args[i + 1], args[i + 2], tonumber(args[i + 3])
    local summary, key, digest = args[i + 5], args[i + 10], args[i + 11]
    local agent = agent_for_queueing(agents, agent_id, batch.now, tonumber(args[7]))
    local outcome, kept_id = 'queued', id
    local is_control = CONTROL_TYPES[kind]
    local known = key ~= '' and server.call('GET', idempotency_key(key))
    if known then
      kept_id = string.sub(known, 1, -#digest - 2)
      outcome = string.sub(known, -#digest) == digest and 'already_queued' or 'key_taken'
    -- An absent agent may come back with other types, and refuses what it cannot run.
    elseif agent.present == 1 and agent.types ~= '' and not among(agent.types, kind) then
      outcome = 'unsupported_type'
    elseif agent.present == 0 and args[i + 8] == 'fail' then
      outcome = 'agent_offline'
    elseif is_control then
      if agent.control_queued >= queue_limit then outcome = 'queue_full' end
    elseif agent.queued >= queue_limit then
      local room = when_full == 'drop' and drop_one(batch, agent, agent_id, priority, args[9], tonumber(args[8]))
      outcome = room and 'queued' or 'queue_full'
    end
    if outcome == 'queued' then
      -- Stay within the receipt's millisecond, which time filters use; ids, which only grow, break ties.
      local queued_us = math.min(batch.now_us + order, batch.now * 1000 + 999)
      local arrival, rank = whole(queued_us), whole(queued_us - priority * ageing_us)
      local expires = whole(batch.now + tonumber(args[i + 7]))
      order = order + 1
      if is_control then
        agent.control_queued = agent.control_queued + 1
      else
        agent.queued = agent.queued + 1
      end
      local strings = batch.strings
      local n = #strings
      strings[n + 1], strings[n + 2] = command_key(id), args[i + 4]
      strings[n + 3], strings[n + 4] = agent_command_key(agent_id, id), '1'
      server.call('HSET', status_key(id), 'status', 'queued', 'agent_id', agent_id, 'type', kind,
        'priority', args[i + 3], 'attempt', '0', 'revision', '1', 'queued_ms', batch.stamp, 'queued_us', arrival, 'rank', rank,
        'expires_ms', expires, 'time_limit_ms', args[i + 6], 'max_runs', args[i + 9], 'params_summary', summary)
      if INSTANCE_TYPES[kind] then server.call('HSET', status_key(id), 'instance_id', agent.instance_id) end
      if key ~= '' then server.call('SET', idempotency_key(key), id .. ' ' .. digest, 'PX', args[6]) end
      index(batch, ALL_COMMANDS_KEY, arrival, id)
      index(batch, agent_commands_key(agent_id), arrival, id)
      index(batch, by_status_key('queued'), arrival, id)
      index(batch, DEADLINES_KEY, expires, id)
      index(batch, (is_control and control_key or ready_key)(agent_id), rank, id)
      local events = batch.events
      events[#events + 1] = id
      events[#events + 1] = table.concat({'queued', agent_id, kind, args[i + 3], 'queued\t0', batch.stamp,
        '\t\t\t\t\t\t1', summary, '\t'}, '\t')
    end
    outcomes[#outcomes + 1] = {outcome, kept_id, agent.known, agent.present, agent.away_since}
  end
  commit(batch, args[2])
  return outcomes
end

register('enqueue', enqueue, {})
