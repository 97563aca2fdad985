-- Purpose: look at a page of an index for entries that `check_indexes` has to check.
-- KEYS     the event stream of the shard
-- ARGV     name of the index in keys.py, its key, the agent_id or status or principal that the key names ('' if none),
--          cursor ('0' to start), entries to look at
-- Returns  {cursor to continue at ('0' at the end); four texts for each suspect: an item of `check_indexes`, or
--          'wrong_type', the key, '', ''}
-- Invariants: finds each entry whose record is lost, or has another agent or a status that does not belong there. What
--          is found may be right.

local IS_SET = {delayed = true, assigned = true, caller_commands = true}

-- Whether an entry belongs into the index, by its record. A status of a later version belongs anywhere.
local FITS = {}

function FITS.by_status(key, status)
  local found = ask('HGET', key, 'status')
  return found == status or is_unknown(found)
end

function FITS.deadlines(key)
  local status = ask('HGET', key, 'status')
  return status and not FINAL[status]
end

function FITS.agent_commands(key, agent_id)
  return ask('HGET', key, 'agent_id') == agent_id
end

local function has(key, status, agent_id, is_control)
  local record = ask('HMGET', key, 'status', 'agent_id', 'type')
  if not record then return false end
  if is_unknown(record[1]) then return true end
  return record[1] == status and record[2] == agent_id
    and (is_control == nil or (CONTROL_TYPES[record[3]] or false) == is_control)
end

function FITS.ready(key, agent_id) return has(key, 'queued', agent_id, false) end
function FITS.control(key, agent_id) return has(key, 'queued', agent_id, true) end
function FITS.delayed(key, agent_id) return has(key, 'queued', agent_id) end
function FITS.assigned(key, agent_id) return has(key, 'assigned', agent_id) end

function FITS.caller_commands(key, principal)
  local record = ask('HMGET', key, 'status', 'requested_by')
  if not record then return false end
  return is_unknown(record[1])
    or record[1] and not FINAL[record[1]] and record[2] and principal_of(record[2]) == principal
end

local function suspect(suspects, where, key, id, agent_id)
  add(suspects, where, key)
  add(suspects, id, agent_id)
end

local function inspect_index(args)
  local name, key, of = args[1], args[2], args[3]
  local step = IS_SET[name] and 1 or 2
  local scanned = ask(IS_SET[name] and 'SSCAN' or 'ZSCAN', key, args[4], 'COUNT', args[5])
  if not scanned then return {'0', {'wrong_type', key, '', ''}} end
  local is_callers = name == 'caller_commands'
  local fits, suspects, agent_id = FITS[name], {}, (name == 'by_status' or is_callers) and '' or of
  for i = 1, #scanned[2], step do
    local id = scanned[2][i]
    if not fits(status_key(id), of) then
      suspect(suspects, is_callers and 'caller' or IS_SET[name] and 'set' or 'zset', key, id, agent_id)
      suspect(suspects, 'record', status_key(id), id, agent_id)
      -- inspect_keys relies on this index.
      if name == 'agent_commands' then suspect(suspects, 'key', agent_command_key(of, id), id, agent_id) end
    end
  end
  return {scanned[1], suspects}
end

register_reader('inspect_index', inspect_index)
