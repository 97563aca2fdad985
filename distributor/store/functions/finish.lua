-- Purpose: store the outcomes that agents report.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, retention_ms, sources of finish, sources of settle;
--          then for each command: id, agent_id, lease id, status, reason code, reason message, JSON members of the
--          result (each followed by a comma), bytes of output, milliseconds before another run ('' for none wanted),
--          milliseconds from the claim to: sent, acknowledged, started ('' if unknown), and whether the handler ran
--          ('1'; '' if the agent refused the command or does not have it)
-- Returns  for each command: stored, run_again, late (already ended; stored as LATE_RESULT), unknown, foreign (another
--          agent's), stale (of an earlier attempt)
-- Invariants: a terminal status and its result are written once, together; only the agent that a command is for can
--          end it, under the current lease or with the outcome of a given-up attempt if no later one has started; a
--          run is counted once, however often it is reported.

local HEADER, ITEM = 5, 13

local function keep_late(batch, id, fields, args, i, retention_ms)
  local late = {}
  for f = 1, #fields do late[f] = fields[f] end
  late[F_STATUS], late[F_CODE], late[F_MESSAGE] = args[i + 3], args[i + 4], args[i + 5]
  server.call('SET', late_result_key(id),
    result_json(id, late, args[i + 6], tonumber(args[i + 7]), rfc3339(batch.now)), 'PX', retention_ms)
end

local function finish(keys, args)
  local batch = new_batch(args[1])
  local retention_ms = tonumber(args[3])
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    local outcome
    local holds = fields and fields[F_LEASE_ID] == args[i + 2] and among(args[4], fields[F_STATUS])
    local earlier_base = fields and not holds and args[i + 12] == '1' and among(args[5], fields[F_STATUS])
      and base_of_given_up(fields, args[i + 2])
    if not fields then
      outcome = 'unknown'
    elseif fields[F_AGENT_ID] ~= args[i + 1] then
      outcome = 'foreign'
    elseif fields[F_FINISHED_MS] ~= '' then
      outcome = 'late'
      keep_late(batch, id, fields, args, i, retention_ms)
    elseif args[i + 2] ~= '' and fields[F_COUNTED_LEASE] == args[i + 2] then
      -- Reported again because the acknowledgement was lost.
      outcome = 'run_again'
    elseif not holds and not earlier_base then
      outcome = 'stale'
    else
      if earlier_base then
        fields[F_OUTPUT_BASE] = earlier_base
      else
        fill_receipts(fields, args[i + 9], args[i + 10], args[i + 11])
      end
      -- The status has the reason why the attempt was given up; the outcome may have none of its own.
      if fields[F_CODE] ~= '' and args[i + 4] == '' then
        server.call('HSET', status_key(id), 'code', '', 'message', '')
      end
      fields[F_CODE], fields[F_MESSAGE] = args[i + 4], args[i + 5]
      local runs = number(fields, F_RUNS) + 1
      -- The agent counts output of its own attempt only. Include dropped output, so that readers see the gap.
      local said = math.min(number(fields, F_OUTPUT_BASE) + args[i + 7], MAX_EXACT)
      local output_bytes = math.max(number(fields, F_OUTPUT_BYTES), said)
      if args[i + 8] ~= '' and runs < number(fields, F_MAX_RUNS) and fields[F_CANCEL_MS] == '' then
        outcome = 'run_again'
        server.call('HSET', status_key(id), 'runs', runs, 'counted_lease', args[i + 2],
          'output_bytes', whole(output_bytes))
        if fields[F_STATUS] == 'queued' then leave_queue(batch, id, fields) end
        release_command(batch, id, fields, tonumber(args[i + 8]))
      else
        outcome = 'stored'
        finish_command(batch, id, fields, args[i + 3], retention_ms, args[i + 6], output_bytes)
      end
    end
    outcomes[#outcomes + 1] = outcome
  end
  commit(batch, args[2])
  return outcomes
end

register('finish', finish, {'allow-oom'})
