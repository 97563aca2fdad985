-- Purpose: one page of commands, newest first.
-- KEYS     none; names come from the prelude
-- ARGV     agent_id or '', statuses (comma separated) or '', type or '', queued from (us, inclusive) or '-inf',
--          queued until (us, exclusive) or '+inf', last seen arrival (us) or '', last seen id or '', page size,
--          maximum commands to scan
-- Returns  {arrival and id to continue after ('' and '' at the end), then for each command {row..., id}}
-- Invariants: scans a bounded number of commands, so a page may be short or empty and still have a next one.

-- The smallest index that contains every match.
local function index_for(agent_id, statuses)
  local only = statuses ~= '' and not string.find(statuses, ',', 1, true)
  local by_status = only and by_status_key(statuses)
  local by_agent = agent_id ~= '' and agent_commands_key(agent_id)
  if by_status and by_agent then
    return server.call('ZCARD', by_status) < server.call('ZCARD', by_agent) and by_status or by_agent
  end
  return by_status or by_agent or ALL_COMMANDS_KEY
end

local function list_commands(keys, args)
  local agent_id, statuses, kind = args[1], args[2], args[3]
  local upper = args[5] == '+inf' and '+inf' or '(' .. args[5]
  local last_arrival, last_id = args[6], args[7]
  if last_arrival ~= '' then upper = last_arrival end
  local page_size, max_scanned = tonumber(args[8]), tonumber(args[9])
  local page = {'', ''}
  local found = server.call('ZREVRANGEBYSCORE', index_for(agent_id, statuses), upper, args[4], 'WITHSCORES',
    'LIMIT', 0, max_scanned)
  for i = 1, #found, 2 do
    local id, arrival = found[i], whole(tonumber(found[i + 1]))
    if arrival ~= last_arrival or id < last_id then
      local row = server.call('HMGET', status_key(id), unpack(FIELDS, 1, ROW_LENGTH))
      if row[F_STATUS] and (agent_id == '' or row[F_AGENT_ID] == agent_id) and (kind == '' or row[F_TYPE] == kind)
        and (statuses == '' or among(statuses, row[F_STATUS])) then
        row[ROW_LENGTH + 1] = id
        for f = 1, ROW_LENGTH do row[f] = row[f] or '' end
        page[#page + 1] = row
      end
      page[1], page[2] = arrival, id
      if #page - 2 == page_size and i + 2 <= #found then return page end
    end
  end
  if #found < max_scanned * 2 then page[1], page[2] = '', '' end
  return page
end

register('list_commands', list_commands, {'no-writes'})
