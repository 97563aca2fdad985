-- Purpose: read everything about one command, and the presence of its agent.
-- KEYS     none; names come from the prelude
-- ARGV     id
-- Returns  false if unknown, else {now_ms, the command or false, bytes of its output so far,
--          {connected, last_seen_ms, away_since_ms} of its agent's session, row}
-- Invariants: all parts are from the same moment.

local function get_command(keys, args)
  local id = args[1]
  local fields = read(id)
  if not fields then return false end
  local stored = server.call('MGET', command_key(id), ended_command_key(id))
  local session = server.call('HMGET', session_key(fields[F_AGENT_ID]), 'connected', 'last_seen_ms', 'away_since_ms')
  local row = {}
  for f = 1, ROW_LENGTH do row[f] = fields[f] end
  return {new_batch('').now, stored[1] or stored[2], number(fields, F_OUTPUT_BYTES), session, row}
end

register('get_command', get_command, {'no-writes'})
