-- Purpose: extend the time limits of running commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, time_limit_ms from the start on
-- Returns  for each command: 'ok', 'short' if its limit is as long already, or 'gone' if this lease does not hold it
-- Invariants: a limit and its deadline only grow; only the lease that holds a command extends it.

local HEADER, ITEM = 5, 4

local function extend_one(batch, args, i)
  local id, limit_ms = args[i], tonumber(args[i + 3])
  local fields = read(id)
  if not fields or fields[F_AGENT_ID] ~= args[i + 1] or fields[F_LEASE_ID] ~= args[i + 2]
    or not among(args[5], fields[F_STATUS]) then
    return 'gone'
  end
  read_request(id, fields)
  if limit_ms <= time_limit(fields) then return 'short' end
  fields[F_EXTENDED_MS] = args[i + 3]
  set_rare(id, 'extended_ms', args[i + 3], 'revision', revise(fields))
  local started = tonumber(fields[F_STARTED_MS]) or batch.now
  local before = tonumber(server.call('ZSCORE', deadlines_key(), id)) or 0
  -- Written at once, for a second extension in this call to see.
  server.call('ZADD', deadlines_key(), math.max(before, started + limit_ms + args[4]), id)
  announce(batch, 'extended', id, fields, receipt_members(fields))
  return 'ok'
end

local function extend(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do outcomes[#outcomes + 1] = extend_one(batch, args, i) end
  return outcomes
end

register('extend', extend, {'allow-oom'})
