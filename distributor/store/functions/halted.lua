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
