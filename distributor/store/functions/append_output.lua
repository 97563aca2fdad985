-- Purpose: store output of running commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, maximum bytes kept of one command, maximum pieces kept of one
--          command, sources of finish, sources of settle;
--          then for each piece: id, agent_id, lease id, stream ('1' stdout, '2' stderr), offset, data,
--          plain size of data if it is gzip or ''
-- Returns  for each piece: the offset up to which the agent may discard output; or -1 if the command is alive under
--          another lease, -2 if it has ended, -3 if it is unknown or another agent's
-- Invariants: no byte is stored twice, except that gzip is stored whole: readers skip what they have; the oldest pieces
--          are dropped first, and OUTPUT then begins after them; the latest is always kept; a piece that ends beyond
--          what can be counted over all attempts is dropped, and may be discarded. Output of a given-up attempt counts
--          until a later one starts, which then begins after it.

local HEADER, ITEM = 7, 7

-- Where the output of a given-up attempt begins; nil if it does not count, as another lease has begun since.
local function begin_of_given_up(id, args, i)
  local fields, lease_id = read(id), args[i + 2]
  if not among(args[7], fields[F_STATUS]) or is_counted(fields, lease_id) then return nil end
  local stored = number(fields, F_OUTPUT_BYTES)
  -- Output proves a start that is not recorded yet.
  if among(args[6], fields[F_STATUS]) and stored > number(fields, F_OUTPUT_BASE) then return nil end
  local base = base_of_given_up(fields, lease_id)
  -- Its session does not check it: no more may be missing than its agent can have held back.
  return base and base + args[i + 4] <= stored + OUTPUT_WINDOW and base or nil
end

-- Drops the oldest pieces beyond the limits. Returns where the kept output begins, nil if all of it is kept.
local function trim(key, count, last, max_bytes, max_pieces)
  local keep_after = last - max_bytes
  if keep_after <= 0 and count <= max_pieces then return nil end
  local low, step = math.max(0, count - max_pieces), 1
  if keep_after > 0 then
    -- Mostly few are dropped: search from the beginning, in growing steps.
    while low + step < count and output_end(key, low + step - 1) <= keep_after do
      low, step = low + step, step * 2
    end
    low = first_output_beyond(key, low, math.min(low + step - 1, count - 1), keep_after)
  end
  if low > 0 then server.call('LTRIM', key, 2 * low, -1) end
  local first_end, plain = string.match(head_of_output(key, 0), '^(%d+) %d+ %d+ ?(%d*)$')
  return first_end and first_end - (tonumber(plain) or #server.call('LINDEX', key, 1))
end

local function append_output(batch, args)
  local max_bytes, max_pieces = tonumber(args[4]), tonumber(args[5])
  local outcomes, arrived, order = {}, {}, {}
  for i = HEADER + 1, #args, ITEM do
    local id, offset, data, unpacked = args[i], tonumber(args[i + 4]), args[i + 5], args[i + 6]
    local size = tonumber(unpacked) or #data
    local fields = server.call('HMGET', status_key(id), 'agent_id', 'lease_id', 'status', 'output_bytes', 'output_base')
    -- An agent's offsets start at 0 in each attempt; `output_base` is where this attempt began.
    local stored, base = tonumber(fields[4]) or 0, tonumber(fields[5]) or 0
    local own, held = fields[1] == args[i + 1], fields[2] == args[i + 2] and among(args[6], fields[3])
    if own and not held and not FINAL[fields[3]] then base = begin_of_given_up(id, args, i) end
    local first = base and base + offset
    local last = base and first + size
    if not own then
      outcomes[#outcomes + 1] = -3
    elseif FINAL[fields[3]] then
      outcomes[#outcomes + 1] = -2
    elseif not base then
      outcomes[#outcomes + 1] = -1
    elseif first > MAX_EXACT - size then
      outcomes[#outcomes + 1] = offset + size
    else
      if last > stored then
        if unpacked == '' and first < stored then data = string.sub(data, stored - first + 1) end
        local head = whole(last) .. ' ' .. args[i + 3] .. ' ' .. batch.stamp
        if unpacked ~= '' then head = head .. ' ' .. unpacked end
        local pieces = server.call('RPUSH', output_key(id), head, data) / 2
        local kept_from = trim(output_key(id), pieces, last, max_bytes, max_pieces)
        if kept_from then
          set_rare(id, 'output_bytes', whole(last), 'output_dropped', whole(kept_from))
        else
          set_rare(id, 'output_bytes', whole(last))
        end
        -- A later attempt that is assigned begins after it.
        if not held then set_rare(id, 'output_base', whole(last)) end
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
