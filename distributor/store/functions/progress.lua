-- Purpose: record that an agent has acknowledged or started commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, and milliseconds from the claim to: sent, acknowledged,
--          started ('' if unknown)
-- Returns  for each command: 'ok', or 'gone' if this lease no longer holds it
-- Invariants: a receipt is written once; from then on the deadline is the run limit.

local HEADER, ITEM = 5, 6

local function progress(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and fields[F_LEASE_ID] == args[i + 2]
      and among(args[5], fields[F_STATUS]) then
      local acknowledged, started = fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS]
      fill_receipts(fields, args[i + 3], args[i + 4], args[i + 5])
      if fields[F_ACKNOWLEDGED_MS] ~= acknowledged or fields[F_STARTED_MS] ~= started then
        server.call('HSET', status_key(id), 'revision', revise(fields), 'sent_ms', fields[F_SENT_MS],
          'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'started_ms', fields[F_STARTED_MS])
        index(batch, deadlines_key(), run_limit(batch, id, fields, tonumber(args[4])), id)
        announce(batch, fields[F_STARTED_MS] ~= started and 'started' or 'acknowledged', id, fields,
          receipt_members(fields))
      end
      outcomes[#outcomes + 1] = 'ok'
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  return outcomes
end

register('progress', progress, {'allow-oom'})
