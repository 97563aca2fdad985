-- Purpose: record that an agent has acknowledged or started commands.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, and milliseconds from the claim to: sent, acknowledged,
--          started ('' if unknown)
-- Returns  for each command: 'ok', or 'gone' if this lease no longer holds it
-- Invariants: a receipt is written once; from then on the deadline is the run limit.

local HEADER, ITEM = 4, 6

local function progress(keys, args)
  local batch = new_batch(args[1])
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and fields[F_LEASE_ID] == args[i + 2]
      and among(args[4], fields[F_STATUS]) then
      local acknowledged, started = fields[F_ACKNOWLEDGED_MS], fields[F_STARTED_MS]
      fill_receipts(fields, args[i + 3], args[i + 4], args[i + 5])
      if fields[F_ACKNOWLEDGED_MS] ~= acknowledged or fields[F_STARTED_MS] ~= started then
        server.call('HSET', status_key(id), 'sent_ms', fields[F_SENT_MS],
          'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'started_ms', fields[F_STARTED_MS])
        index(batch, DEADLINES_KEY, run_limit(batch, fields, tonumber(args[3])), id)
        announce(batch, fields[F_STARTED_MS] ~= started and 'started' or 'acknowledged', id, fields)
      end
      outcomes[#outcomes + 1] = 'ok'
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  commit(batch, args[2])
  return outcomes
end

register('progress', progress, {'allow-oom'})
