-- Purpose: end queued commands; request the end of assigned ones, and of queued ones that their agent may run.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, retention_ms, sources of cancel, sources of finish;
--          then for each command: id, reason message
-- Returns  for each command: false if unknown, else its row after the call
-- Invariants: a cancel is requested once; a command that has ended is not changed; none is cancelled that may be
--          running.

local HEADER, ITEM = 6, 2

-- Ends a queued command, or waits for its agent where that may run an earlier attempt.
local function cancel_queued(batch, id, fields, message, retention_ms)
  local known = given_up_state(fields)
  if known ~= 'none' then request_cancel(batch, id, fields, message, '') end
  if known == 'open' then return doubt(batch, id, fields, retention_ms) end
  if known == 'lost' then return lose(batch, id, fields, 'failed', RECORD_LOST, retention_ms) end
  fields[F_CANCEL_MS], fields[F_CANCEL_MESSAGE] = batch.stamp, message
  server.call('HSET', status_key(id), 'cancel_ms', batch.stamp)
  end_cancelled(batch, id, fields, retention_ms)
end

local function cancel(batch, args)
  local rows = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and among(args[5], fields[F_STATUS]) then
      cancel_queued(batch, id, fields, args[i + 1], args[4])
    elseif fields and among(args[6], fields[F_STATUS]) and fields[F_CANCEL_MS] == '' then
      local doubtful = in_doubt(fields)
      request_cancel(batch, id, fields, args[i + 1], '')
      if doubtful then announce_doubt(batch, id, fields) end
    end
    rows[#rows + 1] = fields and server.call('HMGET', status_key(id), unpack(ROW_FIELDS)) or false
  end
  return rows
end

register('cancel', cancel, {'allow-oom'})
