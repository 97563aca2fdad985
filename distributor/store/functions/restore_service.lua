-- Purpose: let what a revoked service was issued before count again.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, name of the service
-- Returns  'ok'; 'unknown' if the service is not revoked
-- Invariants: nothing else changes.

local function restore_service(batch, args)
  if server.call('HDEL', revocations_key(), 'service' .. ':' .. args[4]) == 0 then return 'unknown' end
  server.call('INCR', revocations_version_key())
  return 'ok'
end

register('restore_service', restore_service, {'allow-oom'})
