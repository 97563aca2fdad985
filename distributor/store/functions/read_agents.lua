-- Purpose: read what is known about agents, and count what they have.
-- KEYS     the event stream of the shard
-- ARGV     fields of a session (comma separated);
--          then for each agent: its id
-- Returns  {now_ms, then for each agent {{fields}, commands that it was given and has not ended, slots that these use,
--          commands in its queue}}
-- Invariants: changes nothing.

local HEADER = 1

-- How many commands an agent was given, and the slots that they use: none for control commands.
local function assigned_and_slots(agent_id)
  local ids = server.call('SMEMBERS', assigned_key(agent_id))
  local slots = 0
  for _, id in ipairs(ids) do
    local fields = server.call('HMGET', status_key(id), 'slots', 'type')
    if not CONTROL_TYPES[fields[2] or ''] then slots = slots + (tonumber(fields[1] or '') or 1) end
  end
  return #ids, slots
end

local function read_agents(args)
  local names = {}
  for name in string.gmatch(args[1], '[^,]+') do names[#names + 1] = name end
  local reply = {new_batch().now}
  for i = HEADER + 1, #args do
    local agent_id = args[i]
    local assigned, slots = assigned_and_slots(agent_id)
    reply[#reply + 1] = {server.call('HMGET', session_key(agent_id), unpack(names)), assigned, slots,
      server.call('ZCARD', ready_key(agent_id)) + server.call('ZCARD', control_key(agent_id))
      + server.call('SCARD', delayed_key(agent_id))}
  end
  return reply
end

register_reader('read_agents', read_agents)
