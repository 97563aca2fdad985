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
