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
