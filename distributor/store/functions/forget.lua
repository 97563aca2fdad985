-- Purpose: delete commands past their retention, and remove agents with expired sessions from the index.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, maximum commands, maximum agents, agent id to continue after
--          ('' to start), retention_ms
-- Returns  {commands deleted, agents removed, agent id to continue after ('' at the end)}
-- Invariants: only commands that have ended are deleted, in the order in which they ended, with all their keys.

local function forget_commands(batch, limit, retention_ms)
  local ids = server.call('LRANGE', ended_key(), 0, limit - 1)
  local names, count = {}, 0
  for _, id in ipairs(ids) do
    local fields = server.call('HMGET', status_key(id), 'finished_ms', 'agent_id', 'status')
    if fields[1] and fields[1] + retention_ms > batch.now then break end
    count = count + 1
    -- The index check completes and lists again what lacks one of them.
    if fields[1] and fields[2] and fields[3] then
      local n = #names
      names[n + 1], names[n + 2] = status_key(id), agent_command_key(fields[2], id)
      names[n + 3], names[n + 4], names[n + 5] = result_key(id), late_result_key(id), output_key(id)
      unindex(batch, agent_commands_key(fields[2]), id)
      unindex(batch, by_status_key(fields[3]), id)
    end
  end
  if #names > 0 then server.call('UNLINK', unpack(names)) end
  if count > 0 then server.call('LTRIM', ended_key(), count, -1) end
  return count
end

local function forget_agents(batch, limit, after)
  local agents = server.call('ZRANGEBYLEX', agents_key(), after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
  local gone = 0
  for _, agent_id in ipairs(agents) do
    if server.call('EXISTS', session_key(agent_id), ready_key(agent_id), control_key(agent_id),
      delayed_key(agent_id), assigned_key(agent_id)) == 0 then
      unindex(batch, agents_key(), agent_id)
      gone = gone + 1
    end
  end
  return gone, #agents == limit and agents[#agents] or ''
end

local function forget(batch, args)
  local count = forget_commands(batch, tonumber(args[4]), tonumber(args[7]))
  local gone, next_after = forget_agents(batch, tonumber(args[5]), args[6])
  return {count, gone, next_after}
end

register('forget', forget, {'allow-oom'})
