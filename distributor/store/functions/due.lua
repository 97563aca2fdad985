-- Purpose: act on passed deadlines of live commands.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, maximum commands, delivery attempts, retention_ms, offline_after_ms,
--          sources of expire, sources of release;
--          then one delay_ms for each attempt: the delay after that attempt was not acknowledged
-- Returns  {ms until the next deadline or -1, then for each command: id, agent_id, new state}
-- Invariants: a passed deadline is acted on once, even if several replicas try.

local HEADER = 8

local function seconds(ms)
  return string.format(ms < 100000 and '%.3g s' or '%.0f s', ms / 1000)
end

local function expire(batch, id, fields, retention_ms)
  fields[F_CODE] = 'expired'
  fields[F_MESSAGE] = 'waited ' .. seconds(batch.now - number(fields, F_QUEUED_MS)) .. ' in the queue, its limit'
  finish_command(batch, id, fields, 'timeout', retention_ms, '', number(fields, F_OUTPUT_BYTES))
  return 'timeout'
end

-- Ends an acknowledged command that its agent has neither finished nor stopped in time.
local function overrun(batch, id, fields, retention_ms, offline_after_ms)
  local session = server.call('HMGET', session_key(fields[F_AGENT_ID]), 'connected', 'last_seen_ms')
  if is_present(session[1], session[2], batch.now, offline_after_ms) then
    fields[F_CODE] = 'time_limit'
    fields[F_MESSAGE] = 'the agent did not report the end within the time limit of '
      .. seconds(number(fields, F_TIME_LIMIT_MS))
  else
    fields[F_CODE] = 'agent_lost'
    fields[F_MESSAGE] = 'the agent went away and did not come back within the time limit of '
      .. seconds(number(fields, F_TIME_LIMIT_MS))
  end
  finish_command(batch, id, fields, 'timeout', retention_ms, '', number(fields, F_OUTPUT_BYTES))
  return 'timeout'
end

local function act(batch, id, fields, args)
  local retention_ms = tonumber(args[5])
  if among(args[7], fields[F_STATUS]) then
    if number(fields, F_EXPIRES_MS) <= batch.now then return expire(batch, id, fields, retention_ms) end
    append(batch.freed, delayed_key(fields[F_AGENT_ID]), id)
    index(batch, queue_key(fields), fields[F_RANK], id)
    index(batch, DEADLINES_KEY, fields[F_EXPIRES_MS], id)
    announce(batch, 'queued', id, fields)
    return 'queued'
  end
  if not among(args[8], fields[F_STATUS]) then
    unindex(batch, DEADLINES_KEY, id)
    return fields[F_STATUS]
  end
  if fields[F_ACKNOWLEDGED_MS] ~= '' then
    return overrun(batch, id, fields, retention_ms, tonumber(args[6]))
  end
  local attempt = number(fields, F_ATTEMPT)
  fields[F_CODE] = 'not_acknowledged'
  fields[F_MESSAGE] = 'the agent did not acknowledge attempt ' .. attempt
  local delay_ms = tonumber(args[HEADER + attempt] or args[#args])
  return release_or_give_up(batch, id, fields, delay_ms, tonumber(args[4]), retention_ms)
end

local function due(keys, args)
  local batch = new_batch(args[1])
  local reply = {-1}
  for _, id in ipairs(server.call('ZRANGEBYSCORE', DEADLINES_KEY, '-inf', batch.now, 'LIMIT', 0, args[3])) do
    local fields = read(id)
    if fields then
      reply[#reply + 1] = id
      reply[#reply + 1] = fields[F_AGENT_ID]
      reply[#reply + 1] = act(batch, id, fields, args)
    else
      unindex(batch, DEADLINES_KEY, id)
    end
  end
  commit(batch, args[2])
  local next_one = server.call('ZRANGE', DEADLINES_KEY, 0, 0, 'WITHSCORES')
  if next_one[2] then reply[1] = math.max(0, floor(tonumber(next_one[2]) - batch.now)) end
  return reply
end

register('due', due, {'allow-oom'})
