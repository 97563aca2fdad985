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
