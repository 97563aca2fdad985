-- Purpose: requeue commands that an agent did not start: refused as busy or stale, or never sent.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, delivery attempts, retention_ms, sources of release;
--          then for each command: id, agent_id, lease id, delay_ms, reason code, reason message, counts ('0' if it must
--          not count as a delivery attempt), refused ('1' if the agent said that it will not start it; '0' if it may
--          have it)
-- Returns  for each command: the new state (queued, failed, cancelled), or 'gone' if this lease no longer holds it, or
--          its agent has started it
-- Invariants: a released command keeps its place in the queue.

local HEADER, ITEM = 6, 8

local function release(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and fields[F_LEASE_ID] == args[i + 2]
      and among(args[6], fields[F_STATUS]) and fields[F_STARTED_MS] == '' then
      if args[i + 6] == '0' then
        fields[F_UNCOUNTED] = number(fields, F_UNCOUNTED) + 1
        set_rare(id, 'uncounted', fields[F_UNCOUNTED])
      end
      local reason = {code = args[i + 4], message = args[i + 5]}
      outcomes[#outcomes + 1] = release_or_give_up(batch, id, fields, reason, tonumber(args[i + 3]),
        tonumber(args[4]), args[5], args[i + 7] == '0')
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  return outcomes
end

register('release', release, {'allow-oom'})
