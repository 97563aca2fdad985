-- Purpose: read everything about one command, and the presence of its agent.
-- KEYS     the event stream of the shard
-- ARGV     id
-- Returns  false if unknown, else {now_ms, the command or false, bytes of its output so far,
--          {connected, last_seen_ms, away_since_ms} of its agent's session, row, attempts that have ended}
-- Invariants: all parts are from the same moment.

local function get_command(args)
  local id = args[1]
  local row = server.call('HMGET', status_key(id), unpack(ROW_FIELDS))
  if not row[ROW_STATUS] then return false end
  local agent_id = row[ROW_AGENT_ID]
  local stored = server.call('MGET', command_key(id), agent_command_key(agent_id, id))
  -- While the command is alive, the second name only marks that the agent has it.
  local command = stored[1] or (FINAL[row[ROW_STATUS]] and stored[2])
  local rare = server.call('HMGET', status_key(id), 'output_bytes', 'attempts')
  local output_bytes = tonumber(rare[1]) or 0
  local session = server.call('HMGET', session_key(agent_id), 'connected', 'last_seen_ms', 'away_since_ms')
  return {new_batch().now, command, output_bytes, session, row, rare[2] or ''}
end

register_reader('get_command', get_command)
