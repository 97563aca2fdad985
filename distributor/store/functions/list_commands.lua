-- Purpose: one page of commands, newest first.
-- KEYS     the event stream of the shard
-- ARGV     agent_id or '', statuses (comma separated), type or '', queued from (us, inclusive) or '-inf', queued until
--          (us, exclusive) or '+inf', last seen arrival (us) or '', last seen id or '', page size, maximum commands to
--          scan
-- Returns  {arrival and id to continue after ('' and '' at the end), then for each command {row..., arrival, id}}
-- Invariants: scans a bounded number of commands, so a page may be short or empty and still have a next one.

local READ_AT_ONCE = 200

-- Commands of one index in order, read in parts.
local function new_source(key, range)
  return {key = key, range = range, read = 0, at = 1, found = {}}
end

-- Arrival and id of the first command of a source, nil at its end.
local function head(source)
  if source.at > #source.found and not source.at_end then
    source.found = server.call('ZREVRANGEBYSCORE', source.key, source.range.upper, source.range.lower, 'WITHSCORES',
      'LIMIT', source.read, READ_AT_ONCE)
    source.read = source.read + READ_AT_ONCE
    source.at_end = #source.found < 2 * READ_AT_ONCE
    source.at = 1
  end
  local id = source.found[source.at]
  if id then return tonumber(source.found[source.at + 1]), id end
end

-- Takes the newest command of all sources; nil at the end.
local function take_newest(sources)
  local newest, arrival, id
  for _, source in ipairs(sources) do
    local score, member = head(source)
    if score and (not newest or score > arrival or (score == arrival and member > id)) then
      newest, arrival, id = source, score, member
    end
  end
  if newest then newest.at = newest.at + 2 end
  return arrival, id
end

-- The smallest set of indexes that contains every match, each once.
local function sources_for(agent_id, statuses, range)
  if agent_id ~= '' then
    local by_agent = agent_commands_key(agent_id)
    local by_status = not string.find(statuses, ',', 1, true) and by_status_key(statuses)
    if by_status and server.call('ZCARD', by_status) < server.call('ZCARD', by_agent) then
      return {new_source(by_status, range)}
    end
    return {new_source(by_agent, range)}
  end
  local sources = {}
  for status in string.gmatch(statuses, '[^,]+') do
    sources[#sources + 1] = new_source(by_status_key(status), range)
  end
  return sources
end

local function list_commands(args)
  local agent_id, statuses, kind, last_arrival, last_id = args[1], args[2], args[3], args[6], args[7]
  local range = {lower = args[4], upper = args[5] == '+inf' and '+inf' or '(' .. args[5]}
  if last_arrival ~= '' then range.upper = last_arrival end
  local page_size, max_scanned = tonumber(args[8]), tonumber(args[9])
  local sources = sources_for(agent_id, statuses, range)
  local page, scanned = {'', ''}, 0
  local arrival, id = take_newest(sources)
  while arrival do
    -- Commands that arrived in the same microsecond as the last one seen may have been seen.
    if whole(arrival) ~= last_arrival or id < last_id then
      local row = server.call('HMGET', status_key(id), unpack(ROW_FIELDS))
      if row[ROW_STATUS] and (agent_id == '' or row[ROW_AGENT_ID] == agent_id)
        and (kind == '' or row[ROW_TYPE] == kind) and listed(statuses, row[ROW_STATUS]) then
        row[#ROW_FIELDS + 1], row[#ROW_FIELDS + 2] = whole(arrival), id
        blank(row, 1, #ROW_FIELDS)
        page[#page + 1] = row
      end
      page[1], page[2] = whole(arrival), id
    end
    scanned = scanned + 1
    arrival, id = take_newest(sources)
    if arrival and (#page - 2 == page_size or scanned == max_scanned) then return page end
  end
  page[1], page[2] = '', ''
  return page
end

register_reader('list_commands', list_commands)
