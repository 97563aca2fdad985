-- Purpose: requeue commands that an agent did not start: refused as busy or stale, or never sent.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, delivery attempts, retention_ms, slack_ms added to the time
--          limit, sources of release;
--          then for each command: id, agent_id, lease id, delay_ms, reason code, reason message, counts ('0' if it must
--          not count as a delivery attempt), word ('refused' if the agent said that nothing of the command runs,
--          'unsent' if its stream never carried this attempt, '' if it may have it)
-- Returns  for each command: the new state (queued, failed, cancelled; assigned if its agent may run an earlier
--          attempt), or 'gone' if this lease no longer holds it, or its agent has started it
-- Invariants: a released command keeps its place in the queue; none is cancelled or failed that may be running.

local HEADER, ITEM = 7, 8

-- Whether this lease holds the command; in doubt, any lease that the agent may have: then only a word on it changes
-- what is known. Only the agent itself can give back a command that it has acknowledged.
local function holds(id, fields, lease_id, word)
  if fields[F_ACKNOWLEDGED_MS] ~= '' and word ~= 'refused' then return false end
  if not in_doubt(fields) then return fields[F_LEASE_ID] == lease_id end
  return word ~= '' and (forget_lease(id, fields, lease_id) or fields[F_LEASE_ID] == lease_id)
end

local function release(batch, args)
  local outcomes = {}
  local policy = {attempts = tonumber(args[4]), retention_ms = args[5], slack_ms = tonumber(args[6])}
  for i = HEADER + 1, #args, ITEM do
    local id = args[i]
    local fields = read(id)
    if fields and fields[F_AGENT_ID] == args[i + 1] and among(args[7], fields[F_STATUS])
      and fields[F_STARTED_MS] == '' and holds(id, fields, args[i + 2], args[i + 7]) then
      if args[i + 6] == '0' then
        fields[F_UNCOUNTED] = number(fields, F_UNCOUNTED) + 1
        set_rare(id, 'uncounted', fields[F_UNCOUNTED])
      end
      local reason = {code = args[i + 4], message = args[i + 5]}
      outcomes[#outcomes + 1] = release_or_give_up(batch, id, fields, reason, tonumber(args[i + 3]), policy,
        args[i + 7])
    else
      outcomes[#outcomes + 1] = 'gone'
    end
  end
  return outcomes
end

register('release', release, {'allow-oom'})
