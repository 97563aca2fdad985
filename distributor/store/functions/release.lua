-- Purpose: requeue commands that an agent did not start: refused as busy or stale, or never sent.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, delivery attempts, retention_ms, sources of release;
--          then for each command: id, agent_id, lease id, delay_ms, reason code, reason message,
--          counts ('0' if it must not count as a delivery attempt)
-- Returns  for each command: the new state (queued, failed, cancelled), or 'gone' if this lease no longer holds it
-- Invariants: a released command keeps its place in the queue.

local HEADER, ITEM = 5, 7

local function release(keys, args)
  local batch = new_batch(args[1])
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and fields[F_LEASE_ID] == args[i + 2]
      and among(args[5], fields[F_STATUS]) then
      fields[F_CODE], fields[F_MESSAGE] = args[i + 4], args[i + 5]
      if args[i + 6] == '0' then
        fields[F_UNCOUNTED] = number(fields, F_UNCOUNTED) + 1
        server.call('HSET', status_key(id), 'uncounted', fields[F_UNCOUNTED])
      end
      outcomes[#outcomes + 1] = release_or_give_up(batch, id, fields, tonumber(args[i + 3]),
        tonumber(args[3]), tonumber(args[4]))
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  commit(batch, args[2])
  return outcomes
end

register('release', release, {'allow-oom'})
