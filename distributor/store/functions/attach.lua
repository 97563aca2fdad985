-- Purpose: open a session for an agent and decide which held commands it keeps.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, agent_id, instance id, capacity, types (comma separated),
--          labels (JSON), version, offline_after_ms, session_ttl_ms, late_after_ms, slack_ms added to
--          time limits, delivery attempts, retention_ms, sources of adopt, sources of release, journal id ('' if it
--          keeps none), peer address, epoch of a live instance that does not answer and may be superseded ('' for
--          none), maximum sessions a minute, orphan_after_ms (how long without a server until the agent stops all
--          work, '0' for never), whether it knows emergency stops ('1' or '');
--          then for each command the agent holds: id, lease id
-- Returns  {'taken', ms since the other instance was last seen, its epoch, last_seen_ms, its peer address}, or
--          {'flapping', ms until it may attach again}, or
--          {'ok', epoch, now_ms, the journal id of its last session if that differs, else '', {id, JSON} of the
--          emergency stop in force for it, else {}, then for each held
--          command: false to drop it, 'counted' if its result is stored and another run is due, 'ended' if it ended
--          otherwise, or {attempt, assigned_ms, sent_ms, acknowledged_ms, started_ms, stored bytes of its output,
--          cancel_ms, message of the cancel, '1' for a control command, revision, slots ('' for 1)}}
-- Invariants: one live instance per agent id, and the replica that serves it hears of another; epochs only grow;
--          afterwards the agent holds exactly what ASSIGNED lists: a command that it did not
--          receive is requeued, one that it received and lost ends as outcome_unknown.

local HEADER, ITEM = 23, 2
local MINUTE_MS = 60000

local function adopt(batch, id, fields, slack_ms)
  if fields[F_STATUS] == 'queued' then
    leave_queue(batch, id, fields)
    append(batch.taken, assigned_key(fields[F_AGENT_ID]), id)
    move(batch, id, fields, 'assigned')
    if fields[F_ASSIGNED_MS] == '' then fields[F_ASSIGNED_MS] = batch.stamp end
  end
  local cancelled = fields[F_CANCEL_MS] ~= ''
  settle_doubt(id, fields)
  if fields[F_ACKNOWLEDGED_MS] == '' then fields[F_ACKNOWLEDGED_MS] = batch.stamp end
  set_rare(id, 'status', 'assigned', 'revision', revise(fields), 'assigned_ms', fields[F_ASSIGNED_MS],
    'acknowledged_ms', fields[F_ACKNOWLEDGED_MS], 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  index(batch, deadlines_key(), run_limit(batch, id, fields, slack_ms), id)
  announce(batch, fields[F_STARTED_MS] == '' and 'acknowledged' or 'started', id, fields, ',"assigned_ms":'
    .. fields[F_ASSIGNED_MS] .. receipt_members(fields)
    .. reason_members(fields) .. cancel_members(fields))
  return {fields[F_ATTEMPT], fields[F_ASSIGNED_MS], fields[F_SENT_MS], fields[F_ACKNOWLEDGED_MS],
    fields[F_STARTED_MS], whole(number(fields, F_OUTPUT_BYTES) - number(fields, F_OUTPUT_BASE)), fields[F_CANCEL_MS],
    fields[F_CANCEL_MESSAGE], CONTROL_TYPES[fields[F_TYPE]] and '1' or '', fields[F_REVISION],
    fields[F_SLOTS]}
end

-- Decides about a command that the agent holds under this lease.
local function settle_held(batch, id, lease_id, args, held)
  local fields = read(id)
  if fields and fields[F_AGENT_ID] == args[4] and FINAL[fields[F_STATUS]]
    and not (fields[F_STATUS] == 'completed' and fields[F_LEASE_ID] == lease_id) then
    return 'ended'
  end
  if not fields or fields[F_AGENT_ID] ~= args[4] or number(fields, F_ATTEMPT) == 0
    or not among(args[16], fields[F_STATUS]) then
    return false
  end
  if is_counted(fields, lease_id) then return 'counted' end
  if held[id] then return false end
  -- An attempt given up while the agent had it continues, and the later one has not started.
  if not goes_on_under(batch, id, fields, lease_id) then return false end
  held[id] = true
  return adopt(batch, id, fields, tonumber(args[13]))
end

local NOT_DELIVERED = {code = 'not_delivered', message = 'the connection ended before the agent had the command'}
local CAME_WITHOUT = {
  code = 'outcome_unknown', message = 'the agent came back without it; it may have run in part or in full',
}

-- `intact`: the agent has its record, so what it does not list it has not started.
local function settle_missing(batch, id, args, intact)
  local fields = read(id)
  if not fields or not among(args[17], fields[F_STATUS]) then
    append(batch.freed, assigned_key(args[4]), id)
  elseif fields[F_ACKNOWLEDGED_MS] ~= '' then
    lose(batch, id, fields, 'failed', CAME_WITHOUT, args[15])
  elseif intact or INSTANCE_TYPES[fields[F_TYPE]] then
    local policy = {attempts = tonumber(args[14]), retention_ms = args[15], slack_ms = tonumber(args[13])}
    release_or_give_up(batch, id, fields, NOT_DELIVERED, 0, policy, 'absent')
  else
    lose(batch, id, fields, 'failed', RECORD_LOST, args[15])
  end
end

-- Another instance lives. Notes the rival, and lets the replica that serves the agent probe it.
local function contest(batch, key, session, agent_id, args)
  server.call('HSET', key, 'rival_ms', batch.stamp, 'rival_peer', args[19])
  -- The same event once more: only a contest makes another replica send it.
  if session[5] ~= args[1] then announce_agent(batch, agent_id, session[1], session[7], 'true') end
  return {'taken', batch.now - tonumber(session[4]), session[1], session[4], session[6] or ''}
end

local function attach(batch, args)
  local agent_id, instance_id = args[4], args[5]
  local key = session_key(agent_id)
  local session = server.call('HMGET', key, 'epoch', 'instance_id', 'connected', 'last_seen_ms', 'replica', 'peer',
    'revision', 'minute_ms', 'minute_sessions', 'journal_id', 'record_changes')
  if session[2] and session[2] ~= instance_id and session[1] ~= args[20]
    and is_present(session[3], session[4], batch.now, tonumber(args[10])) then
    return contest(batch, key, session, agent_id, args)
  end
  local minute_ms, sessions = tonumber(session[8]) or 0, tonumber(session[9]) or 0
  if batch.now - minute_ms >= MINUTE_MS then minute_ms, sessions = batch.now, 0 end
  if sessions >= tonumber(args[21]) then
    server.call('HSET', key, 'flapping_ms', batch.stamp)
    return {'flapping', minute_ms + MINUTE_MS - batch.now}
  end
  local epoch = (tonumber(session[1]) or 0) + 1
  -- Epochs begin again once the sessions of an agent have been forgotten.
  if not session[1] then server.call('HSET', key, 'history_ms', batch.stamp) end
  local replaced = session[10] and session[10] ~= '' and session[10] ~= args[18]
  if replaced then server.call('HSET', key, 'journal_replaced_ms', batch.stamp) end
  local stop = stop_of(agent_id, args[8])
  local reply, held = {'ok', epoch, batch.now, replaced and session[10] or '', stop and {stop.id, stop.text} or {}}, {}
  local intact = session[1] and record_of(session[10], session[2]) == record_of(args[18], instance_id)
  for i = HEADER + 1, #args, ITEM do
    reply[#reply + 1] = settle_held(batch, args[i], args[i + 1], args, held)
  end
  for _, id in ipairs(server.call('SMEMBERS', assigned_key(agent_id))) do
    if not held[id] then settle_missing(batch, id, args, intact) end
  end
  local changes = session[11] or ''
  if session[1] and not intact then changes = note_record_change(changes, epoch) end
  server.call('HSET', key, 'replica', args[1], 'epoch', epoch, 'revision', '1', 'instance_id', instance_id,
    'connected', '1', 'connected_ms', batch.stamp, 'last_seen_ms', batch.stamp, 'capacity', args[6], 'types', args[7],
    'late_after_ms', args[12], 'labels', args[8], 'version', args[9], 'journal_id', args[18], 'peer', args[19],
    'minute_ms', whole(minute_ms), 'minute_sessions', sessions + 1, 'record_changes', changes,
    'offline_after_ms', args[10], 'orphaned_after_ms', args[22] == '0' and '' or whole(args[22] + args[13]),
    'knows_halts', args[23])
  server.call('HDEL', key, 'away_since_ms', 'vitals', 'signs')
  server.call('PEXPIRE', key, args[11])
  index(batch, agents_key(), 0, agent_id)
  announce_agent(batch, agent_id, epoch, '1', 'true')
  return reply
end

register('attach', attach, {'allow-oom'})
