-- Purpose: store the outcomes that agents report.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, retention_ms, sources of finish, sources of settle;
--          then for each command: id, agent_id, lease id, status, reason code, reason message, JSON members of the
--          result (each followed by a comma), bytes of output, milliseconds before another run ('' for none wanted),
--          milliseconds from the claim to: sent, acknowledged, started ('' if unknown), and the agent's word on the
--          handler ('ran', 'survived' if processes of it still run, 'refused', 'absent' if a cancel did not find it)
-- Returns  {now_ms, then for each command: run_again, late (already ended; stored as LATE_RESULT), stored (that is its
--          result already), unknown, foreign (another agent's), stale (of an earlier attempt), open (not found, but
--          another attempt may run), or {stored, revision, type, priority, attempt, queued_us, assigned_ms, sent_ms,
--          acknowledged_ms, started_ms, cancel_ms, params_summary, cancel_stage, requested_by, and reason code and
--          message if others count than those reported}, '' where unset}
-- Invariants: a terminal status and its result are written once, together; only the agent that a command is for can
--          end it, under the current lease or with the outcome of a given-up attempt if no later one has started; a
--          run is counted once, however often it is reported. A command is shown as the attempt that ended it.

local HEADER, ITEM = 6, 13

-- Bytes of output over all attempts. The agent counts those of its own attempt; dropped ones are included, so that
-- readers see the gap.
local function output_bytes_of(fields, said)
  if fields[F_RARE] == '' and said == '0' then return 0 end
  return math.max(number(fields, F_OUTPUT_BYTES), math.min(number(fields, F_OUTPUT_BASE) + said, MAX_EXACT))
end

-- The permitted number of runs: that for the reason of this failure, or else that for any reason.
local function runs_permitted(fields)
  local permitted, code = fields[F_MAX_RUNS], fields[F_CODE]
  local of_reason = code ~= '' and string.match(permitted, ' ' .. code .. '=(%d+)')
  return tonumber(of_reason or string.match(permitted, '^%d+')) or 0
end

-- The agent knows only that a command was cancelled; what cancelled it may have given a code. Returns whether it has.
local function take_reason_of_cancel(into, fields, status)
  if status ~= 'cancelled' or fields[F_CANCEL_CODE] == '' then return false end
  into[F_CODE], into[F_MESSAGE] = fields[F_CANCEL_CODE], fields[F_CANCEL_MESSAGE]
  return true
end

-- Keeps a report that came after the end, beside the result. Returns the outcome: 'stored' if it is the result that is
-- stored, reported again because its acknowledgement was lost.
local function keep_late(batch, id, fields, args, i, retention_ms)
  local late = {}
  for f = 1, F_RARE_END do late[f] = fields[f] end
  late[F_STATUS], late[F_CODE], late[F_MESSAGE] = args[i + 3], args[i + 4], args[i + 5]
  take_reason_of_cancel(late, fields, args[i + 3])
  local output_bytes = output_bytes_of(fields, args[i + 7])
  if fields[F_LEASE_ID] == args[i + 2] and fields[F_STATUS] == args[i + 3] then
    local finished = tonumber(server.call('HGET', status_key(id), 'finished_ms'))
    if finished and server.call('GET', result_key(id))
      == result_json(id, late, args[i + 6], output_bytes, rfc3339(finished)) then
      return 'stored'
    end
  end
  server.call('SET', late_result_key(id),
    result_json(id, late, args[i + 6], output_bytes, rfc3339(batch.now)), 'PX', retention_ms)
  add_event(batch, id, '{"event":"late","agent_id":"' .. fields[F_AGENT_ID] .. '","reported":"' .. args[i + 3] .. '"}',
    'late')
  return 'late'
end

-- Requeues a command whose run failed transiently. Returns false if it must not run again.
local function run_again(batch, id, fields, lease_id, delay_ms, output_bytes)
  if delay_ms == '' or fields[F_CANCEL_MS] ~= '' then return false end
  read_request(id, fields)
  local runs = number(fields, F_RUNS) + 1
  if runs >= runs_permitted(fields) then return false end
  -- An agent that received the command again while it ran has the same run under the later lease.
  local counted = lease_id == fields[F_LEASE_ID] and lease_id or lease_id .. ' ' .. fields[F_LEASE_ID]
  set_rare(id, 'runs', runs, 'counted_lease', counted, 'output_bytes', whole(output_bytes))
  clear_given_up(id, fields)
  if fields[F_STATUS] == 'queued' then leave_queue(batch, id, fields) end
  release_command(batch, id, fields, tonumber(delay_ms))
  return true
end

local function accept(batch, id, fields, args, i, retention_ms, said)
  fields[F_CODE], fields[F_MESSAGE] = args[i + 4], args[i + 5]
  local of_cancel = take_reason_of_cancel(fields, fields, args[i + 3])
  local output_bytes = output_bytes_of(fields, said)
  if run_again(batch, id, fields, args[i + 2], args[i + 8], output_bytes) then return 'run_again' end
  finish_command(batch, id, fields, args[i + 3], retention_ms, args[i + 6], output_bytes,
    args[i + 12] == 'survived' and 'could_not_stop' or 'stopped')
  local row = {'stored', fields[F_REVISION], fields[F_TYPE], fields[F_PRIORITY], fields[F_ATTEMPT], fields[F_QUEUED_US],
    fields[F_ASSIGNED_MS], fields[F_SENT_MS], fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS], fields[F_CANCEL_MS],
    fields[F_PARAMS_SUMMARY], fields[F_CANCEL_STAGE], fields[F_REQUESTED_BY]}
  if of_cancel then add(row, fields[F_CODE], fields[F_MESSAGE]) end
  return row
end

-- A cancel did not find the command under this lease. It ends once no other lease is left under which it may run.
-- Returns nil if it is to end now, else the outcome.
local function absent(batch, id, fields, args, i, retention_ms)
  local doubtful, known = in_doubt(fields), forget_lease(id, fields, args[i + 2])
  local current = fields[F_LEASE_ID] == args[i + 2] and among(args[5], fields[F_STATUS])
  if fields[F_CANCEL_MS] == '' or not (current or (doubtful and known)) then return 'stale' end
  -- An agent that has acknowledged a command holds it under no other lease.
  local open = fields[F_ACKNOWLEDGED_MS] ~= '' and 'none' or given_up_state(fields)
  if open == 'none' then
    fields[F_LEASE_ID] = args[i + 2]
    return nil
  end
  if not doubtful then doubt(batch, id, fields, retention_ms) end
  return 'open'
end

local function finish_one(batch, args, i, retention_ms)
  local id, lease_id = args[i], args[i + 2]
  local fields = read(id)
  if not fields then return 'unknown' end
  if fields[F_AGENT_ID] ~= args[i + 1] then return 'foreign' end
  if args[i + 12] == 'absent' then
    local outcome = FINAL[fields[F_STATUS]] and 'late' or absent(batch, id, fields, args, i, retention_ms)
    if outcome then return outcome end
  end
  local ran = args[i + 12] == 'ran' or args[i + 12] == 'survived'
  if fields[F_LEASE_ID] == lease_id and among(args[5], fields[F_STATUS]) then
    fill_receipts(fields, args[i + 9], args[i + 10], args[i + 11])
    if ran and in_doubt(fields) then fill_start(batch, fields) end
    return accept(batch, id, fields, args, i, retention_ms, args[i + 7])
  end
  if FINAL[fields[F_STATUS]] then
    return keep_late(batch, id, fields, args, i, retention_ms)
  end
  -- Reported again because the acknowledgement was lost.
  if is_counted(fields, lease_id) and args[i + 8] ~= '' and fields[F_STARTED_MS] == '' then
    return 'run_again'
  end
  if not ran or not among(args[6], fields[F_STATUS]) or is_counted(fields, lease_id) then return 'stale' end
  local base, attempt = base_of_given_up(fields, lease_id)
  if not base then return 'stale' end
  show_attempt(batch, id, fields, attempt)
  fill_receipts(fields, args[i + 9], args[i + 10], args[i + 11])
  fill_start(batch, fields)
  fields[F_OUTPUT_BASE] = base
  -- Besides what is stored, its agent may hold back a window of output, which was not accepted under this lease.
  local most = number(fields, F_OUTPUT_BYTES) - base + OUTPUT_WINDOW
  local outcome = accept(batch, id, fields, args, i, retention_ms, math.min(args[i + 7], most))
  -- The same report again is then known as such.
  if outcome ~= 'run_again' then set_rare(id, 'lease_id', lease_id, 'output_base', whole(base)) end
  return outcome
end

local function finish(batch, args)
  local retention_ms = args[4]
  local outcomes, seen = {batch.now}, {}
  for i = HEADER + 1, #args, ITEM do
    -- A second report of a command finds the indexes as the first has left them.
    if seen[args[i]] then write(batch) end
    seen[args[i]] = true
    outcomes[#outcomes + 1] = finish_one(batch, args, i, retention_ms)
  end
  return outcomes
end

register('finish', finish, {'allow-oom'}, 'finished')
