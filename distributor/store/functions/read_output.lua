-- Purpose: read output of a command from an offset on.
-- KEYS     the event stream of the shard
-- ARGV     id, offset, bytes that are enough
-- Returns  the head and the data of each piece, beginning with the first that ends beyond the offset; none at the end
-- Invariants: at least one piece if there is any; no more than MAX_PIECES, whatever their size.

local MAX_PIECES = 256

local function read_output(args)
  local key, offset, enough = output_key(args[1]), tonumber(args[2]), tonumber(args[3])
  local count = floor(server.call('LLEN', key) / 2)
  -- Most readers follow, and have all but the latest piece.
  if count == 0 or output_end(key, count - 1) <= offset then return {} end
  local first = first_output_beyond(key, 0, count - 1, offset)
  local last = first_output_beyond(key, first, math.min(count, first + MAX_PIECES) - 1, offset + enough - 1)
  return server.call('LRANGE', key, 2 * first, 2 * last + 1)
end

register_reader('read_output', read_output)
