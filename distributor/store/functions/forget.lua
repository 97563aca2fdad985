-- Purpose: remove commands past their retention, and agents with expired sessions, from the indexes. Their own keys
--          expire by TTL.
-- KEYS     none; names come from the prelude
-- ARGV     maximum commands, maximum agents, agent id to continue after ('' to start), terminal states (comma
--          separated)
-- Returns  {commands removed, agents removed, agent id to continue after ('' at the end)}
-- Invariants: indexes contain no ids of unreadable commands, except until the next sweep.

local function forget(keys, args)
  local batch = new_batch('')
  local due = server.call('ZRANGEBYSCORE', RETENTION_KEY, '-inf', batch.now, 'LIMIT', 0, args[1])
  for _, member in ipairs(due) do
    local agent_id, id = string.match(member, '^(.-)/(.+)$')
    unindex(batch, RETENTION_KEY, member)
    unindex(batch, ALL_COMMANDS_KEY, id)
    unindex(batch, agent_commands_key(agent_id), id)
    for status in string.gmatch(args[4], '[^,]+') do unindex(batch, by_status_key(status), id) end
  end
  local after = args[3] == '' and '-' or '(' .. args[3]
  local agents = server.call('ZRANGEBYLEX', AGENTS_KEY, after, '+', 'LIMIT', 0, args[2])
  local gone = 0
  for _, agent_id in ipairs(agents) do
    if server.call('EXISTS', session_key(agent_id), ready_key(agent_id), control_key(agent_id),
      delayed_key(agent_id), assigned_key(agent_id)) == 0 then
      unindex(batch, AGENTS_KEY, agent_id)
      gone = gone + 1
    end
  end
  commit(batch, '0')
  return {#due, gone, #agents == tonumber(args[2]) and agents[#agents] or ''}
end

register('forget', forget, {'allow-oom'})
