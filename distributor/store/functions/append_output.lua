-- Purpose: store output of running commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, maximum bytes kept of one command, sources of finish;
--          then for each piece: id, agent_id, lease id, stream ('1' stdout, '2' stderr), offset, data,
--          plain size of data if it is gzip or ''
-- Returns  for each piece: the offset up to which the agent may discard output; or -1 if the command is alive under
--          another lease, -2 if it has ended, -3 if it is unknown or another agent's
-- Invariants: no byte is stored twice, except that gzip is stored whole: readers skip what they have; the oldest bytes
--          are dropped first, and OUTPUT then begins after them; a piece that ends beyond what can be counted over all
--          attempts is dropped, and may be discarded.

local HEADER, ITEM = 5, 7

-- An agent's offsets start at 0 in each attempt; `output_base` is where this attempt began.
local function append_output(batch, args)
  local max_bytes = tonumber(args[4])
  local outcomes, arrived, order = {}, {}, {}
  for i = HEADER + 1, #args, ITEM do
    local id, offset, data, unpacked = args[i], tonumber(args[i + 4]), args[i + 5], args[i + 6]
    local size = tonumber(unpacked) or #data
    local fields = server.call('HMGET', status_key(id), 'agent_id', 'lease_id', 'status', 'output_bytes', 'output_base')
    local stored, base = tonumber(fields[4]) or 0, tonumber(fields[5]) or 0
    local first = base + offset
    local last = first + size
    if fields[1] ~= args[i + 1] then
      outcomes[#outcomes + 1] = -3
    elseif FINAL[fields[3]] then
      outcomes[#outcomes + 1] = -2
    elseif fields[2] ~= args[i + 2] or not among(args[5], fields[3]) then
      outcomes[#outcomes + 1] = -1
    elseif first > MAX_EXACT - size then
      outcomes[#outcomes + 1] = offset + size
    else
      if last > stored then
        local entry = {'s', args[i + 3], 't', batch.stamp, 'd', data}
        if unpacked ~= '' then
          entry[7], entry[8] = 'z', unpacked
        elseif first < stored then
          entry[6] = string.sub(data, stored - first + 1)
        end
        server.call('XADD', output_key(id), whole(last) .. '-0', unpack(entry))
        set_rare(id, 'output_bytes', whole(last))
        if last > max_bytes then
          server.call('XTRIM', output_key(id), 'MINID', '=', whole(last - max_bytes + 1) .. '-0')
          local oldest = server.call('XRANGE', output_key(id), '-', '+', 'COUNT', 1)[1]
          local kept_from = tonumber(string.match(oldest[1], '%d+')) - (tonumber(oldest[2][8]) or #oldest[2][6])
          server.call('HSET', status_key(id), 'output_dropped', whole(kept_from))
        end
        if not arrived[id] then order[#order + 1] = id end
        arrived[id] = '{"event":"output","agent_id":"' .. args[i + 1] .. '","end_offset":' .. whole(last) .. '}'
        stored = last
      end
      outcomes[#outcomes + 1] = stored - base
    end
  end
  for _, id in ipairs(order) do
    add_event(batch, id, arrived[id], 'output')
  end
  return outcomes
end

register('append_output', append_output, {})
