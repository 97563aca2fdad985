-- Purpose: put an emergency stop in force.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, stop id, scope as JSON, reason, who stops, maximum stops
-- Returns  {'ok', JSON of the stop}, the present one if the id is known; or {'too_many'}
-- Invariants: from this call on, no command but a control command is queued for agents in scope, or claimed by them. A
--          stop never changes.

local function stop(batch, args)
  local id = args[4]
  local known = server.call('HGET', stops_key(), id)
  if known then return {'ok', known} end
  if server.call('HLEN', stops_key()) >= tonumber(args[8]) then return {'too_many'} end
  local text = '{"since_ms":' .. batch.stamp .. ',"scope":' .. args[5] .. ',"reason":' .. cjson.encode(args[6])
    .. ',"stopped_by":' .. cjson.encode(args[7]) .. '}'
  server.call('HSET', stops_key(), id, text)
  add_event(batch, id, '{"event":"stops"}', 'stops')
  return {'ok', text}
end

register('stop', stop, {'allow-oom'})
