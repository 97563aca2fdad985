-- Purpose: end queued commands; request the end of assigned ones.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, retention_ms, sources of cancel, sources of finish;
--          then for each command: id, reason message
-- Returns  for each command: false if unknown, else its row after the call
-- Invariants: a cancel is requested once; a command that has ended is not changed.

local HEADER, ITEM = 5, 2

local function cancel(keys, args)
  local batch = new_batch(args[1])
  local rows = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and among(args[4], fields[F_STATUS]) then
      fields[F_CANCEL_MS] = batch.now
      server.call('HSET', status_key(id), 'cancel_ms', batch.now)
      fields[F_CODE], fields[F_MESSAGE] = 'cancelled', args[i + 1]
      finish_command(batch, id, fields, 'cancelled', tonumber(args[3]), '', number(fields, F_OUTPUT_BYTES))
    elseif fields and among(args[5], fields[F_STATUS]) and fields[F_CANCEL_MS] == '' then
      fields[F_CANCEL_MS], fields[F_CODE], fields[F_MESSAGE] = batch.now, 'cancel_requested', args[i + 1]
      server.call('HSET', status_key(id), 'cancel_ms', batch.now, 'code', 'cancel_requested',
        'message', args[i + 1])
      announce(batch, 'cancel_requested', id, fields)
    end
    if fields then
      local row = {}
      for f = 1, ROW_LENGTH do row[f] = tostring(fields[f]) end
      rows[#rows + 1] = row
    else
      rows[#rows + 1] = false
    end
  end
  commit(batch, args[2])
  return rows
end

register('cancel', cancel, {'allow-oom'})
