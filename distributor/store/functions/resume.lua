-- Purpose: end emergency stops.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep;
--          then for each stop: its id
-- Returns  for each stop: its JSON, or '' if it is not in force
-- Invariants: queued commands of agents for which no other stop is in force can be claimed again.

local HEADER, ITEM = 3, 1

local function resume(batch, args)
  local ended = {}
  for i = HEADER + 1, #args, ITEM do
    local text = server.call('HGET', stops_key(), args[i])
    if text then
      server.call('HDEL', stops_key(), args[i])
      add_event(batch, args[i], '{"event":"stops"}', 'stops')
    end
    ended[#ended + 1] = text or ''
  end
  return ended
end

register('resume', resume, {'allow-oom'})
