-- Purpose: record that an agent has acknowledged or started commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, and milliseconds from the claim to: sent, acknowledged,
--          started ('' if unknown, 'past' if it has started at an unknown time)
-- Returns  for each command: 'ok', or 'gone' if this lease no longer holds it
-- Invariants: a receipt is written once; from then on the deadline is the run limit. A command in doubt goes on under
--             the lease that its agent reports on.

local HEADER, ITEM = 5, 6

local function progress(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and among(args[5], fields[F_STATUS])
      and (fields[F_LEASE_ID] == args[i + 2]
        or (in_doubt(fields) and goes_on_under(batch, id, fields, args[i + 2]))) then
      local acknowledged, started = fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS]
      local doubtful = in_doubt(fields)
      if args[i + 5] == 'past' then
        fill_start(batch, fields)
      else
        fill_receipts(fields, args[i + 3], args[i + 4], args[i + 5])
      end
      -- Receipts of an attempt that was given up are not known, but that its agent has it is.
      if doubtful and fields[F_ACKNOWLEDGED_MS] == '' then fields[F_ACKNOWLEDGED_MS] = batch.stamp end
      if fields[F_ACKNOWLEDGED_MS] ~= acknowledged or fields[F_STARTED_MS] ~= started then
        server.call('HSET', status_key(id), 'revision', revise(fields), 'sent_ms', fields[F_SENT_MS],
          'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'started_ms', fields[F_STARTED_MS])
        local settled = doubtful and ',"assigned_ms":' .. fields[F_ASSIGNED_MS] .. settle_doubt(id, fields) or ''
        index(batch, deadlines_key(), run_limit(batch, id, fields, tonumber(args[4])), id)
        announce(batch, fields[F_STARTED_MS] ~= started and 'started' or 'acknowledged', id, fields,
          receipt_members(fields) .. settled)
      end
      outcomes[#outcomes + 1] = 'ok'
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  return outcomes
end

register('progress', progress, {'allow-oom'})
