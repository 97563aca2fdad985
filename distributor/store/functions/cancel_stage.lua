-- Purpose: record how far cancels have got: written to the agent's stream, or what the agent said of them.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, slack_ms added to the time limit, sources of finish;
--          then for each command: id, agent_id, lease id, stage, reason message of 'could_not_stop' or ''
-- Returns  for each command: 'ok', or 'gone' if no cancel is wanted under this lease, or the stage cannot follow
-- Invariants: stages follow one another only as CANCEL_STAGES permits; what the agent says of a command in doubt ends
--             the doubt.

local HEADER, ITEM = 5, 5

-- Whether the cancel under this lease concerns the command.
local function concerns(fields, lease_id)
  return fields[F_LEASE_ID] == lease_id or base_of_given_up(fields, lease_id) ~= nil
end

local function note(batch, args, i)
  local id, lease_id, stage = args[i], args[i + 2], args[i + 3]
  local fields = read(id)
  if not fields or fields[F_AGENT_ID] ~= args[i + 1] or not among(args[5], fields[F_STATUS])
    or fields[F_CANCEL_MS] == '' or not concerns(fields, lease_id) then
    return 'gone'
  end
  local doubtful = in_doubt(fields) and stage ~= 'delivered'
  if doubtful then settle_doubt(id, fields) end
  local known = CANCEL_STAGES[fields[F_CANCEL_STAGE]]
  if not known or not known[stage] then return 'gone' end
  if doubtful then
    goes_on_under(batch, id, fields, lease_id)
    fields[F_ACKNOWLEDGED_MS] = batch.stamp
    server.call('HSET', status_key(id), 'acknowledged_ms', batch.stamp)
    index(batch, deadlines_key(), run_limit(batch, id, fields, tonumber(args[4])), id)
  end
  if stage == 'could_not_stop' then fields[F_CODE], fields[F_MESSAGE] = stage, args[i + 4] end
  fields[F_CANCEL_STAGE] = stage
  set_rare(id, 'revision', revise(fields), 'cancel_stage', stage, 'code', fields[F_CODE], 'message', fields[F_MESSAGE])
  announce(batch, 'cancel_progressed', id, fields,
    ',"assigned_ms":' .. fields[F_ASSIGNED_MS] .. receipt_members(fields) .. reason_members(fields)
    .. cancel_members(fields))
  return 'ok'
end

local function cancel_stage(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do outcomes[#outcomes + 1] = note(batch, args, i) end
  return outcomes
end

register('cancel_stage', cancel_stage, {'allow-oom'})
