-- Purpose: read everything about one command, and the presence of its agent.
-- KEYS     the event stream of the shard
-- ARGV     id
-- Returns  false if unknown, else {now_ms, the command or false, bytes of its output so far,
--          {connected, last_seen_ms, away_since_ms} of its agent's session, row, attempts that have ended,
--          when it gave its last sign of life in ms, if its agent reports it as silent, or 0, extended time limit in
--          ms or '', its late result or false}
-- Invariants: all parts are from the same moment.

local SIGN_SLACK_MS = 1000

-- `signs` is `id=ms,` for each silent command of the agent. A sign before the start is of an earlier attempt.
local function last_sign(signs, id, row)
  local _, place = string.find(signs or '', id .. '=', 1, true)
  local ms = place and tonumber(string.match(signs, '^%d+', place + 1))
  local started = tonumber(row[ROW_STARTED_MS] or '')
  return not FINAL[row[ROW_STATUS]] and ms and started and ms >= started - SIGN_SLACK_MS and ms or 0
end

local function get_command(args)
  local id = args[1]
  local row = server.call('HMGET', status_key(id), unpack(ROW_FIELDS))
  if not row[ROW_STATUS] then return false end
  -- It may be damaged, and wait for the index check.
  local agent_id = row[ROW_AGENT_ID] or ''
  local stored = server.call('MGET', command_key(id), agent_command_key(agent_id, id))
  -- While the command is alive, the second name only marks that the agent has it.
  local command = stored[1] or (FINAL[row[ROW_STATUS]] and stored[2])
  local rare = server.call('HMGET', status_key(id), 'output_bytes', 'attempts', 'extended_ms')
  local output_bytes = tonumber(rare[1]) or 0
  local session = server.call('HMGET', session_key(agent_id), 'connected', 'last_seen_ms', 'away_since_ms', 'signs')
  local sign_ms = last_sign(table.remove(session), id, row)
  return {new_batch().now, command, output_bytes, session, row, rare[2] or '', sign_ms, rare[3] or '',
    server.call('GET', late_result_key(id))}
end

register_reader('get_command', get_command)
