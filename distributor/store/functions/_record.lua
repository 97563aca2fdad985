-- Purpose: make records complete, whatever another program has deleted of them.
-- Included between the shared code and the functions; not a function itself. It defines `complete_record`.

local DEFAULT_PRIORITY, DEFAULT_TIME_LIMIT_MS = '50', '300000'

-- All fields of a record, '' if unset.
local function read_whole(id)
  local fields = server.call('HMGET', status_key(id), unpack(FIELDS))
  local rare = server.call('HMGET', status_key(id), unpack(RARE_FIELDS))
  for i = 1, #RARE_FIELDS do fields[#FIELDS + i] = rare[i] end
  local request = server.call('HMGET', status_key(id), unpack(REQUEST_FIELDS))
  for i = 1, #REQUEST_FIELDS do fields[F_RARE_END + i] = request[i] end
  blank(fields, 1, F_RARE_END + #REQUEST_FIELDS)
  return fields
end

-- Where the indexes have a command: scores, and whether sets have it.
local function find(id, fields)
  local agent_id = fields[F_AGENT_ID]
  local found = {by_status = {}}
  for status in pairs(TRANSITIONS) do
    found.by_status[status] = server.call('ZSCORE', by_status_key(status), id)
  end
  found.deadline = server.call('ZSCORE', deadlines_key(), id)
  found.ready = server.call('ZSCORE', ready_key(agent_id), id)
  found.control = server.call('ZSCORE', control_key(agent_id), id)
  found.commands = server.call('ZSCORE', agent_commands_key(agent_id), id)
  found.delayed = server.call('SISMEMBER', delayed_key(agent_id), id) == 1
  found.assigned = server.call('SISMEMBER', assigned_key(agent_id), id) == 1
  local caller = index_of_caller(fields[F_REQUESTED_BY])
  found.caller = caller and server.call('SISMEMBER', caller, id) == 1
  return found
end

-- The status of a record that has lost it: that of the only index that has it, or else what the agent's indexes say.
local function lost_status(id, fields, found)
  local only, count = nil, 0
  for status, score in pairs(found.by_status) do
    if score then only, count = status, count + 1 end
  end
  if count == 1 then return only end
  local result = server.call('GET', result_key(id))
  local status = result and string.match(result, '"status":"(%l+)"')
  if status and FINAL[status] then return status end
  if found.ready or found.control or found.delayed then return 'queued' end
  return (found.assigned or fields[F_LEASE_ID] ~= '') and 'assigned' or 'queued'
end

local function has_rare(fields)
  for i = #FIELDS + 1, F_RARE_END do
    if fields[i] ~= '' then return true end
  end
  return false
end

-- The number of the latest attempt that has ended without ending the command; 0 if there is none.
local function ended_attempts(fields)
  return tonumber(string.match('\n' .. fields[F_ATTEMPTS], '.*\n%[(%d+),')) or 0
end

-- Fills in what a record lacks, from indexes where they know it.
local function complete(batch, id, fields, found, queue_ttl_ms)
  local missing = {}
  local function fill(name, field, value)
    if not tonumber(fields[field]) then
      fields[field] = tostring(value)
      add(missing, name, fields[field])
    end
  end
  if fields[F_STATUS] == '' then
    fields[F_STATUS] = lost_status(id, fields, found)
    add(missing, 'status', fields[F_STATUS])
  end
  if fields[F_TYPE] == '' then
    fields[F_TYPE] = found.control and 'PING' or 'UNKNOWN'
    add(missing, 'type', fields[F_TYPE])
  end
  local status = fields[F_STATUS]
  local arrival = found.commands or found.by_status[status] or whole(batch.now_us)
  fill('queued_us', F_QUEUED_US, whole(arrival))
  -- Greater than any that a reader can have seen.
  fill('revision', F_REVISION, batch.stamp)
  local ended = ended_attempts(fields)
  fill('attempt', F_ATTEMPT, status == 'queued' and ended or ended + 1)
  fill('priority', F_PRIORITY, DEFAULT_PRIORITY)
  fill('time_limit_ms', F_TIME_LIMIT_MS, DEFAULT_TIME_LIMIT_MS)
  fill('rank', F_RANK, whole(found.ready or found.control or fields[F_QUEUED_US]))
  fill('expires_ms', F_EXPIRES_MS, whole(batch.now + queue_ttl_ms))
  if status == 'assigned' then fill('assigned_ms', F_ASSIGNED_MS, batch.stamp) end
  local times = server.call('HMGET', status_key(id), 'queued_ms', 'finished_ms')
  if not times[1] then add(missing, 'queued_ms', string.sub(fields[F_QUEUED_US], 1, -4)) end
  if FINAL[status] and not times[2] then add(missing, 'finished_ms', batch.stamp) end
  if fields[F_RARE] == '' and has_rare(fields) then add(missing, 'rare', '1') end
  if #missing > 0 then
    server.call('HSET', status_key(id), unpack(missing))
    batch.note('record_incomplete', id)
  end
end

function complete_record(batch, id, hint, queue_ttl_ms)
  if server.call('EXISTS', status_key(id)) == 0 then return nil end
  local fields = read_whole(id)
  if is_unknown(fields[F_STATUS]) then return nil end
  if fields[F_AGENT_ID] == '' then
    if hint == '' then return nil end
    fields[F_AGENT_ID] = hint
    server.call('HSET', status_key(id), 'agent_id', hint)
    batch.note('record_incomplete', id)
  end
  local found = find(id, fields)
  complete(batch, id, fields, found, queue_ttl_ms)
  return fields, found
end
