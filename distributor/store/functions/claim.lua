-- Purpose: assign queued commands to attached agents, by rank, each under a lease; control commands first.
-- KEYS     none; names come from the prelude
-- ARGV     replica, events_kept, ack_deadline_ms, maximum total bytes of commands, sources of claim,
--          sources of outdate, retention_ms;
--          then for each agent: agent_id, epoch, maximum commands, lease id, maximum control commands
-- Returns  {now_ms, then for each agent {'superseded'} or {'ok', number of control commands, which come first,
--          then for each command: id, attempt, command}}
-- Invariants: only the session with the latest epoch gets commands; a claimed id is in ASSIGNED and not in READY or
--          CONTROL, and its deadline is the ack deadline; a command for another instance of the agent is not assigned
--          but ends as failed.

local HEADER, ITEM = 7, 5
local MAX_SKIPPED = 100

local function read_commands(ids)
  if #ids == 0 then return {} end
  local names = {}
  for n, id in ipairs(ids) do names[n] = command_key(id) end
  return server.call('MGET', unpack(names))
end

local function claim_command(batch, id, fields, lease_id, ack_deadline_ms)
  local attempt = number(fields, F_ATTEMPT) + 1
  unindex(batch, queue_key(fields), id)
  move(batch, id, fields, 'assigned')
  fields[F_ATTEMPT], fields[F_ASSIGNED_MS] = attempt, batch.stamp
  fields[F_CODE], fields[F_MESSAGE] = '', ''
  if attempt == 1 then
    server.call('HSET', status_key(id), 'status', 'assigned', 'attempt', '1', 'lease_id', lease_id,
      'assigned_ms', batch.stamp)
  else
    server.call('HSET', status_key(id), 'status', 'assigned', 'attempt', attempt, 'lease_id', lease_id,
      'assigned_ms', batch.stamp, 'code', '', 'message', '', 'output_base', number(fields, F_OUTPUT_BYTES))
  end
  append(batch.taken, assigned_key(fields[F_AGENT_ID]), id)
  batch.acknowledge_by = batch.acknowledge_by or whole(batch.now + ack_deadline_ms)
  index(batch, DEADLINES_KEY, batch.acknowledge_by, id)
  announce(batch, 'assigned', id, fields)
  return attempt
end

-- Ends a command meant for an agent instance that is gone.
local function outdate(batch, id, fields, retention_ms)
  fields[F_CODE] = 'instance_gone'
  fields[F_MESSAGE] = fields[F_INSTANCE_ID] == ''
    and 'it was queued before this instance of the agent started'
    or 'the instance of the agent that it was queued for is gone'
  finish_command(batch, id, fields, 'failed', retention_ms, '', number(fields, F_OUTPUT_BYTES))
end

-- Claims up to `limit` commands from one queue into `claimed`; returns their number and the bytes left. Skips expired
-- commands that still wait for their deadline, up to a bound.
local function claim_from(batch, queue, limit, session, claimed, bytes_left)
  local seen, count = 0, 0
  while count < limit and seen < limit + MAX_SKIPPED do
    local ids = server.call('ZRANGE', queue, '-inf', '+inf', 'BYSCORE', 'LIMIT', seen, limit - count)
    if #ids == 0 then break end
    local commands = read_commands(ids)
    for n, id in ipairs(ids) do
      local fields, command = read(id), commands[n]
      if not fields or not command or not among(session.sources, fields[F_STATUS]) then
        unindex(batch, queue, id)
      elseif INSTANCE_TYPES[fields[F_TYPE]] and fields[F_INSTANCE_ID] ~= session.instance_id
        and among(session.outdate_sources, fields[F_STATUS]) then
        outdate(batch, id, fields, session.retention_ms)
      elseif number(fields, F_EXPIRES_MS) > batch.now then
        -- The first is always taken, so that a large command cannot block its queue.
        if #claimed > 2 and #command > bytes_left then return count, 0 end
        bytes_left = bytes_left - #command
        count = count + 1
        claimed[#claimed + 1] = id
        claimed[#claimed + 1] = claim_command(batch, id, fields, session.lease_id, session.ack_deadline_ms)
        claimed[#claimed + 1] = command
      end
    end
    seen = seen + #ids
  end
  return count, bytes_left
end

local function claim(keys, args)
  local batch = new_batch(args[1])
  local bytes_left = tonumber(args[4])
  local replies = {batch.now}
  for i = HEADER + 1, #args, ITEM do
    local agent_id, epoch = args[i], args[i + 1]
    local session = server.call('HMGET', session_key(agent_id), 'epoch', 'connected', 'instance_id')
    if session[1] ~= epoch or session[2] ~= '1' then
      replies[#replies + 1] = {'superseded'}
    else
      local claimed = {'ok', 0}
      local wanted = {
        lease_id = args[i + 3], ack_deadline_ms = tonumber(args[3]), sources = args[5],
        outdate_sources = args[6], retention_ms = tonumber(args[7]), instance_id = session[3] or '',
      }
      claimed[2], bytes_left = claim_from(batch, control_key(agent_id), tonumber(args[i + 4]), wanted, claimed, bytes_left)
      local _
      _, bytes_left = claim_from(batch, ready_key(agent_id), tonumber(args[i + 2]), wanted, claimed, bytes_left)
      replies[#replies + 1] = claimed
    end
  end
  commit(batch, args[2])
  return replies
end

register('claim', claim, {'allow-oom'})
