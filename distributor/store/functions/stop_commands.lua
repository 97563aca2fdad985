-- Purpose: request the end of what agents were given for which an emergency stop is in force.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, sources of finish, reason code;
--          then for each agent: agent_id, message
-- Returns  for each agent: the number of cancels requested, -1 if no stop is in force for it
-- Invariants: as those of `cancel`. Control commands go on: they run no work.

local HEADER, ITEM = 5, 2

local function stop_commands(batch, args)
  local counts = {}
  for i = HEADER + 1, #args, ITEM do
    local count = -1
    if stop_of(args[i]) then
      count = 0
      for _, id in ipairs(server.call('SMEMBERS', assigned_key(args[i]))) do
        local fields = read(id)
        if fields and fields[F_AGENT_ID] == args[i] and among(args[4], fields[F_STATUS])
          and fields[F_CANCEL_MS] == '' and not CONTROL_TYPES[fields[F_TYPE]] then
          local doubtful = in_doubt(fields)
          request_cancel(batch, id, fields, args[i + 1], args[5])
          if doubtful then announce_doubt(batch, id, fields) end
          count = count + 1
        end
      end
    end
    counts[#counts + 1] = count
  end
  return counts
end

register('stop_commands', stop_commands, {'allow-oom'})
