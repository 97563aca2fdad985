-- Purpose: read the list of revocations if it has changed.
-- KEYS     the event stream of the shard
-- ARGV     the version that the reader has
-- Returns  {version} if it is that, or {version, then for each entry: 'agent', 'service' or 'token', ':' and its id,
--          the entry as JSON}
-- Invariants: changes nothing.

local function revocations(args)
  local version = server.call('GET', revocations_version_key()) or '0'
  if version == args[1] then return {version} end
  local reply = server.call('HGETALL', revocations_key())
  table.insert(reply, 1, version)
  return reply
end

register_reader('revocations', revocations)
