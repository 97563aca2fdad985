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
