-- Purpose: end queued commands; request the end of assigned ones.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, retention_ms, sources of cancel, sources of finish;
--          then for each command: id, reason message
-- Returns  for each command: false if unknown, else its row after the call
-- Invariants: a cancel is requested once; a command that has ended is not changed.

local HEADER, ITEM = 6, 2

local function cancel(batch, args)
  local rows = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and among(args[5], fields[F_STATUS]) then
      fields[F_CANCEL_MS] = batch.stamp
      server.call('HSET', status_key(id), 'cancel_ms', batch.stamp)
      fields[F_CODE], fields[F_MESSAGE] = 'cancelled', args[i + 1]
      finish_command(batch, id, fields, 'cancelled', args[4], '', number(fields, F_OUTPUT_BYTES))
    elseif fields and among(args[6], fields[F_STATUS]) and fields[F_CANCEL_MS] == '' then
      fields[F_CANCEL_MS], fields[F_CODE], fields[F_MESSAGE] = batch.stamp, 'cancel_requested', args[i + 1]
      set_rare(id, 'revision', revise(fields), 'cancel_ms', batch.stamp, 'code', 'cancel_requested',
        'message', args[i + 1])
      announce(batch, 'cancel_requested', id, fields, ',"cancel_ms":' .. batch.stamp .. reason_members(fields))
    end
    rows[#rows + 1] = fields and server.call('HMGET', status_key(id), unpack(ROW_FIELDS)) or false
  end
  return rows
end

register('cancel', cancel, {'allow-oom'})
