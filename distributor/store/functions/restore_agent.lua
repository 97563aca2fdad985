-- Purpose: let the credentials of a revoked agent count again.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, agent_id
-- Returns  'ok'; 'unknown' if the agent is not revoked; 'replaced' if it has enrolled again since
-- Invariants: earlier enrolments of an agent that has enrolled again never count.

local function restore_agent(batch, args)
  local field = 'agent' .. ':' .. args[4]
  local entry = server.call('HGET', revocations_key(), field)
  if not entry then return 'unknown' end
  if cjson.decode(entry).revoked_by == '' then return 'replaced' end
  server.call('HDEL', revocations_key(), field)
  server.call('INCR', revocations_version_key())
  return 'ok'
end

register('restore_agent', restore_agent, {'allow-oom'})
