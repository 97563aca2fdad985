-- Purpose: act on passed deadlines of live commands.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, maximum commands, delivery attempts, retention_ms,
--          offline_after_ms, slack_ms added to the time limit, sources of expire, sources of release;
--          then one delay_ms for each attempt: the delay after that attempt was not acknowledged
-- Returns  {ms until the next deadline or -1, then for each command: id, agent_id, new state}
-- Invariants: a passed deadline is acted on once, even if several replicas try. After GAP_MS without a server that
--             looks at deadlines, agents that have not been heard since have offline_after_ms to report what they hold.

local HEADER = 10
-- Far below GAP_MS: Valkey need not write on each look.
local NOTED_FOR_MS = 2000
-- For how long a command with a status of a later version is left to the servers of that version.
local LEFT_FOR_MS = 1000

-- Notes this look at deadlines, unless the note of an earlier one still shows that there is no gap.
local function note_look(batch)
  local ended = gap_ended(batch)
  if batch.last_look and batch.now - batch.last_look <= NOTED_FOR_MS then return end
  server.call('HSET', due_passes_key(), 'last_ms', batch.stamp, 'gap_ended_ms', whole(ended))
end

-- Waits on for a command in doubt, or ends it.
local function end_doubt(batch, id, fields, retention_ms)
  local last = doubt_end(batch, fields)
  if last <= batch.now then return lose(batch, id, fields, 'timeout', not_heard(fields), retention_ms) end
  index(batch, deadlines_key(), whole(last), id)
  return fields[F_STATUS]
end

-- Ends an acknowledged command that its agent has neither finished nor stopped in time.
local function overrun(batch, id, fields, retention_ms, offline_after_ms)
  local session = server.call('HMGET', session_key(fields[F_AGENT_ID]), 'connected', 'last_seen_ms')
  read_request(id, fields)
  local limit = seconds(time_limit(fields))
  if is_present(session[1], session[2], batch.now, offline_after_ms) then
    fields[F_CODE] = 'time_limit'
    fields[F_MESSAGE] = 'the agent did not report the end within the time limit of ' .. limit
  else
    fields[F_CODE] = 'agent_lost'
    fields[F_MESSAGE] = 'the agent went away and did not come back within the time limit of ' .. limit
  end
  finish_command(batch, id, fields, 'timeout', retention_ms, '', number(fields, F_OUTPUT_BYTES), 'unconfirmed')
  return 'timeout'
end

-- Ends the delay of a released command. Nothing that is shown changes, so its revision stays.
local function make_ready(batch, id, fields)
  append(batch.freed, delayed_key(fields[F_AGENT_ID]), id)
  index(batch, queue_key(fields), fields[F_RANK], id)
  index(batch, deadlines_key(), fields[F_EXPIRES_MS], id)
  announce(batch, 'ready', id, fields, ',"type":"' .. fields[F_TYPE] .. '"')
  return 'queued'
end

local function act(batch, id, fields, args)
  local retention_ms = args[6]
  if among(args[9], fields[F_STATUS]) then
    read_request(id, fields)
    if number(fields, F_EXPIRES_MS) <= batch.now then
      return expire(batch, id, fields, retention_ms, given_up_state(fields))
    end
    return make_ready(batch, id, fields)
  end
  if not among(args[10], fields[F_STATUS]) then
    unindex(batch, deadlines_key(), id)
    return fields[F_STATUS]
  end
  if in_doubt(fields) then return end_doubt(batch, id, fields, retention_ms) end
  local waits_until = back_by(batch, server.call('HGET', session_key(fields[F_AGENT_ID]), 'last_seen_ms'), args[7])
  if waits_until > batch.now then
    index(batch, deadlines_key(), whole(waits_until), id)
    return fields[F_STATUS]
  end
  if fields[F_ACKNOWLEDGED_MS] ~= '' then
    return overrun(batch, id, fields, retention_ms, tonumber(args[7]))
  end
  local attempt = number(fields, F_ATTEMPT)
  local reason = {code = 'not_acknowledged', message = 'the agent did not acknowledge attempt ' .. attempt}
  local delay_ms = tonumber(args[HEADER + attempt] or args[#args])
  local policy = {attempts = tonumber(args[5]), retention_ms = retention_ms, slack_ms = tonumber(args[8])}
  return release_or_give_up(batch, id, fields, reason, delay_ms, policy, '')
end

local function due(batch, args)
  local reply = {-1}
  note_look(batch)
  local ids = server.call('ZRANGEBYSCORE', deadlines_key(), '-inf', batch.now, 'LIMIT', 0, args[4])
  for _, id in ipairs(ids) do
    local fields = read(id)
    if fields and is_unknown(fields[F_STATUS]) then
      index(batch, deadlines_key(), whole(batch.now + LEFT_FOR_MS), id)
    elseif fields then
      reply[#reply + 1] = id
      reply[#reply + 1] = fields[F_AGENT_ID]
      reply[#reply + 1] = act(batch, id, fields, args)
    else
      unindex(batch, deadlines_key(), id)
    end
  end
  local upcoming = server.call('ZRANGE', deadlines_key(), #ids, #ids, 'WITHSCORES')
  local first = tonumber(upcoming[2])
  -- Those acted on may have a deadline again, which the batch has not written yet.
  local added = batch.additions[deadlines_key()] or {}
  for i = 1, #added, 2 do
    local again = tonumber(added[i])
    if not first or again < first then first = again end
  end
  if first then reply[1] = math.max(0, floor(first - batch.now)) end
  return reply
end

register('due', due, {'allow-oom'})
