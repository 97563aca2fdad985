-- Purpose: store commands and make them ready for their agents.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, queue_limit, when_full ('refuse' | 'drop'), ageing_us per point of priority,
--          idempotency_ms, offline_after_ms, retention_ms, sources of cancel;
--          then for each command: id, agent_id, type, priority, command, time_limit_ms, queue_ttl_ms,
--          offline ('queue' | 'fail'), max_runs, idempotency key or '', digest of the request
-- Returns  {now_ms, then for each command {outcome, command_id, agent known, agent present, last seen ms}}; outcome:
--          queued, already_queued (same key, same request), key_taken, agent_offline, queue_full, unsupported_type
-- Invariants: a refused command leaves nothing behind; an id is in ALL_COMMANDS, AGENT_COMMANDS, BY_STATUS(queued),
--          DEADLINES and READY, or in none of them.

local HEADER, ITEM = 9, 11

local function agent_for_queueing(agents, agent_id, now, offline_after_ms)
  local agent = agents[agent_id]
  if agent then return agent end
  local session = server.call('HMGET', session_key(agent_id), 'connected', 'last_seen_ms', 'types', 'away_since_ms')
  local present = is_present(session[1], session[2], now, offline_after_ms)
  agent = {
    known = session[1] and 1 or 0,
    present = present and 1 or 0,
    types = session[3] or '',
    away_since = not present and (session[4] or session[2]) or '',
    ready = server.call('ZCARD', ready_key(agent_id)),
  }
  agents[agent_id] = agent
  return agent
end

-- The oldest command of the lowest priority in a queue: scanned, because a queue is bounded and rarely full.
local function least(agent_id)
  local lowest, found, found_us
  for _, id in ipairs(server.call('ZRANGE', ready_key(agent_id), 0, -1)) do
    local fields = server.call('HMGET', status_key(id), 'priority', 'queued_us')
    local priority, queued_us = tonumber(fields[1]), tonumber(fields[2])
    if not lowest or priority < lowest or (priority == lowest and queued_us < found_us) then
      lowest, found, found_us = priority, id, queued_us
    end
  end
  return found, lowest
end

local function enqueue(keys, args)
  local batch = new_batch(args[1])
  local queue_limit, when_full, ageing_us = tonumber(args[3]), args[4], tonumber(args[5])
  local agents, seen, outcomes = {}, {}, {batch.now}
  local order = 0
  for i = HEADER + 1, #args, ITEM do
    local id, agent_id, kind, priority = args[i], args[i + 1], args[i + 2], tonumber(args[i + 3])
    local key, digest = args[i + 9], args[i + 10]
    local agent = agent_for_queueing(agents, agent_id, batch.now, tonumber(args[7]))
    local outcome, kept_id = 'queued', id
    local known = key ~= '' and server.call('GET', idempotency_key(key))
    if known then
      kept_id = string.sub(known, 1, -#digest - 2)
      outcome = string.sub(known, -#digest) == digest and 'already_queued' or 'key_taken'
    elseif agent.types ~= '' and not among(agent.types, kind) then
      outcome = 'unsupported_type'
    elseif agent.present == 0 and args[i + 7] == 'fail' then
      outcome = 'agent_offline'
    elseif agent.ready >= queue_limit then
      outcome = 'queue_full'
      if when_full == 'drop' then
        local dropped, lowest = least(agent_id)
        -- One that this very call queued is not in the index yet, so it can be neither counted nor dropped twice.
        if dropped and not seen[dropped] and lowest <= priority then
          local fields = read(dropped)
          if among(args[9], fields[F_STATUS]) then
            seen[dropped] = true
            fields[F_CODE] = 'queue_overflow'
            fields[F_MESSAGE] = 'pushed out of a full queue by a newer command of the same or a higher priority'
            finish_command(batch, dropped, fields, 'cancelled', tonumber(args[8]), '', number(fields, F_OUTPUT_BYTES))
            server.call('ZREM', ready_key(agent_id), dropped)
            agent.ready = agent.ready - 1
            outcome = 'queued'
          end
        end
      end
    end
    if outcome == 'queued' then
      local queued_us = batch.now_us + order
      local arrival, rank = whole(queued_us), whole(queued_us - priority * ageing_us)
      local expires = whole(batch.now + tonumber(args[i + 6]))
      order = order + 1
      agent.ready = agent.ready + 1
      local strings = batch.strings
      local n = #strings
      strings[n + 1], strings[n + 2] = command_key(id), args[i + 4]
      strings[n + 3], strings[n + 4] = agent_command_key(agent_id, id), '1'
      server.call('HSET', status_key(id), 'status', 'queued', 'agent_id', agent_id, 'type', kind,
        'priority', args[i + 3], 'attempt', '0', 'queued_ms', batch.stamp, 'queued_us', arrival, 'rank', rank,
        'expires_ms', expires, 'time_limit_ms', args[i + 5], 'max_runs', args[i + 8])
      if key ~= '' then server.call('SET', idempotency_key(key), id .. ' ' .. digest, 'PX', args[6]) end
      index(batch, ALL_COMMANDS_KEY, arrival, id)
      index(batch, agent_commands_key(agent_id), arrival, id)
      index(batch, by_status_key('queued'), arrival, id)
      index(batch, DEADLINES_KEY, expires, id)
      index(batch, ready_key(agent_id), rank, id)
      local events = batch.events
      events[#events + 1] = id
      events[#events + 1] = table.concat({'queued', agent_id, kind, args[i + 3], 'queued\t0', batch.stamp,
        '\t\t\t\t\t\t\t'}, '\t')
    end
    outcomes[#outcomes + 1] = {outcome, kept_id, agent.known, agent.present, agent.away_since}
  end
  commit(batch, args[2])
  return outcomes
end

register('enqueue', enqueue, {})
