-- Purpose: look at a page of all keys for what `check_indexes` has to check; names the indexes of agents as well.
-- KEYS     the event stream of the shard
-- ARGV     cursor ('0' to start), keys to look at
-- Returns  {cursor to continue at ('0' at the end); four texts for each suspect: an item of `check_indexes`, or
--          'wrong_type', the key, '', ''; three for each index: its name in keys.py, the key, the agent_id or
--          principal}
-- Invariants: all that `check_indexes` repairs is found here, or by inspect_index in an entry of the index. What is
--          found may be right. Reads little of what is right: few fields, and each index once for the whole page.

local FIELDS_CHECKED = {
  'status', 'agent_id', 'type', 'queued_us', 'revision', 'attempt', 'priority', 'time_limit_ms', 'rank', 'expires_ms',
  'queued_ms', 'finished_ms', 'rare', 'requested_by',
}
-- Together with those above, all but the rare ones.
local FIELDS_BESIDE = {
  'assigned_ms', 'lease_id', 'sent_ms', 'acknowledged_ms', 'started_ms', 'params_summary', 'max_runs',
}
local STATUS, AGENT_ID, TYPE, REQUESTED_BY = 1, 2, 3, 14

local function count(fields, names)
  local set = 0
  for i = 1, #names do
    if fields[i] then set = set + 1 end
  end
  return set
end

local function has_rare(key, fields)
  local beside = server.call('HMGET', key, unpack(FIELDS_BESIDE))
  return server.call('HLEN', key) > count(fields, FIELDS_CHECKED) + count(beside, FIELDS_BESIDE)
end

local function is_complete(key, fields)
  local status, agent_id, kind, queued_us, revision, attempt, priority, time_limit_ms, rank, expires_ms, queued_ms,
    finished_ms, rare = unpack(fields)
  return TRANSITIONS[status] and agent_id and agent_id ~= '' and kind and kind ~= ''
    and tonumber(queued_us) and tonumber(revision) and tonumber(attempt) and tonumber(priority)
    and tonumber(time_limit_ms) and tonumber(rank) and tonumber(expires_ms) and queued_ms
    and (finished_ms or not FINAL[status])
    and (status ~= 'assigned' or tonumber(server.call('HGET', key, 'assigned_ms')))
    and (rare and rare ~= '' or not has_rare(key, fields))
end

local function suspect(page, where, key, id, hint)
  add(page.suspects, where, key)
  add(page.suspects, id, hint)
end

local function suspect_record(page, id)
  if not page.suspected[id] then
    page.suspected[id] = true
    suspect(page, 'record', status_key(id), id, '')
  end
end

local function must_exist(page, key, id)
  add(page.must_exist, key, id)
end

-- Whether it is neither ready nor delayed, or both.
local function is_misqueued(fields, id)
  local agent_id = fields[AGENT_ID]
  local queue = (CONTROL_TYPES[fields[TYPE]] and control_key or ready_key)(agent_id)
  local is_ready = ask('ZSCORE', queue, id) and 1 or 0
  return is_ready + (ask('SISMEMBER', delayed_key(agent_id), id) or 0) ~= 1
end

local LOOK = {}

function LOOK.status(page, key, id)
  local fields = ask('HMGET', key, unpack(FIELDS_CHECKED))
  if not fields then return suspect(page, 'wrong_type', key, '', '') end
  local status, agent_id = fields[STATUS], fields[AGENT_ID]
  if is_unknown(status) then return end
  if not is_complete(key, fields) then return suspect_record(page, id) end
  append(page.scored, by_status_key(status), id)
  append(page.scored, agent_commands_key(agent_id), id)
  if FINAL[status] then return end
  append(page.scored, deadlines_key(), id)
  local caller = index_of_caller(fields[REQUESTED_BY] or '')
  if caller then append(page.members, caller, id) end
  must_exist(page, agent_command_key(agent_id, id), id)
  if status == 'assigned' then
    append(page.members, assigned_key(agent_id), id)
  else
    must_exist(page, command_key(id), id)
    if is_misqueued(fields, id) then suspect_record(page, id) end
  end
end

-- If the index of the agent has the command, inspect_index compares the agent with that of the record.
function LOOK.agent_command(page, key, id, agent_id)
  if not ask('STRLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  append(page.marks, agent_id, id)
end

function LOOK.command(page, key, id)
  if not ask('STRLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  local status = ask('HGET', status_key(id), 'status')
  if not status then suspect(page, 'key', key, id, '') end
  if FINAL[status] then suspect_record(page, id) end
end

function LOOK.output(page, key, id)
  if not ask('LLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  add(page.outputs, status_key(id), id)
end

local function look_at_session(page, key, agent_id)
  if not ask('HLEN', key) then return suspect(page, 'wrong_type', key, '', '') end
  if not ask('ZSCORE', agents_key(), agent_id) then suspect(page, 'session', key, agent_id, agent_id) end
end

-- Nothing depends on these, and they have a TTL.
function LOOK.result() end
LOOK.late_result = LOOK.result

local function match(name, patterns)
  for i = 1, #patterns do
    local first, second = string.match(name, patterns[i][2])
    if first then return patterns[i][1], first, second end
  end
end

local function look_at_other(page, key)
  if string.sub(key, 1, #SHARD) ~= SHARD then return end
  local kind, agent_id = match(string.sub(key, #SHARD + 1), NAMES_OF_A_SHARD)
  if kind == 'session' then
    look_at_session(page, key, agent_id)
  elseif kind then
    page.indexes[#page.indexes + 1] = {kind, key, agent_id}
  end
end

-- The id that `named` has given this name; nil if it is of another shard.
local function id_of(name)
  if SHARD == '' then return name end
  if string.sub(name, 1, #SHARD) ~= SHARD then return nil end
  return string.sub(name, #SHARD + 1, #SHARD + 1) == '.' and string.sub(name, #SHARD + 2) or name
end

-- Keys of commands differ in what follows the last colon, so that what precedes it is matched once.
local function look(page, key)
  local head, name = string.match(key, '^(.*:)([^:]+)$')
  if not head then return end
  local known = page.heads[head]
  if not known then
    local kind, first, second = match(key, NAMES_OF_A_COMMAND)
    known = {LOOK[kind], second and first or ''}
    page.heads[head] = known
  end
  if not known[1] then return look_at_other(page, key) end
  local id = id_of(name)
  if id then known[1](page, key, id, known[2]) end
end

-- The records that an index lacks, with one call for each index.
local function check_lists(page, command, lists, lacks)
  for key, ids in pairs(lists) do
    local found = ask(command, key, unpack(ids))
    for i = 1, #ids do
      if not found or found[i] == lacks then suspect_record(page, ids[i]) end
    end
  end
end

local function check_marks(page)
  for agent_id, ids in pairs(page.marks) do
    local found = ask('ZMSCORE', agent_commands_key(agent_id), unpack(ids))
    for i = 1, #ids do
      if not found or not found[i] then
        suspect(page, 'key', agent_command_key(agent_id, ids[i]), ids[i], agent_id)
      end
    end
  end
end

-- The ids of those keys that do not exist, in a list of keys and ids. Usually, one call shows that all do.
local function lost(keys_and_ids)
  local keys, ids = {}, {}
  for i = 1, #keys_and_ids, 2 do
    keys[#keys + 1] = keys_and_ids[i]
  end
  if #keys == 0 or server.call('EXISTS', unpack(keys)) == #keys then return ids end
  for i = 1, #keys_and_ids, 2 do
    if server.call('EXISTS', keys_and_ids[i]) == 0 then ids[#ids + 1] = keys_and_ids[i + 1] end
  end
  return ids
end

local function inspect_keys(args)
  local scanned = server.call('SCAN', args[1], 'COUNT', args[2])
  local page = {
    suspects = {}, indexes = {}, suspected = {}, heads = {}, scored = {}, members = {}, marks = {}, must_exist = {},
    outputs = {},
  }
  for _, key in ipairs(scanned[2]) do look(page, key) end
  check_lists(page, 'ZMSCORE', page.scored, false)
  check_marks(page)
  check_lists(page, 'SMISMEMBER', page.members, 0)
  for _, id in ipairs(lost(page.must_exist)) do suspect_record(page, id) end
  for _, id in ipairs(lost(page.outputs)) do suspect(page, 'key', output_key(id), id, '') end
  table.sort(page.indexes, function(one, other) return one[2] < other[2] end)
  return {scanned[1], page.suspects, page.indexes}
end

register_reader('inspect_keys', inspect_keys)
