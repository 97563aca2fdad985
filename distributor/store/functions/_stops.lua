-- Purpose: find the emergency stop that is in force for an agent.
-- Included between the shared code and the functions; not a function itself. It defines `stop_of` and `read_stops`.
--
-- STOPS exists only while a stop is in force, so that one EXISTS per call finds that none is. Selectors match as in
-- model/stop_scope.py. A stop that cannot be read, as a later version or another program wrote it, is for all agents.

-- Whether a text fits a pattern in which `*` stands for any characters.
local function matches_wildcards(pattern, text)
  local parts = {}
  for part in string.gmatch(pattern .. '*', '([^*]*)%*') do parts[#parts + 1] = part end
  local head, tail = parts[1], parts[#parts]
  if #parts == 1 then return text == head end
  if #text < #head + #tail or string.sub(text, 1, #head) ~= head or string.sub(text, -#tail, -1) ~= tail and tail ~= ''
  then
    return false
  end
  local at, last = #head + 1, #text - #tail
  for i = 2, #parts - 1 do
    if parts[i] ~= '' then
      local first, found = string.find(text, parts[i], at, true)
      if not first or found > last then return false end
      at = found + 1
    end
  end
  return true
end

local function parse(id, text)
  local parsed, stop = pcall(cjson.decode, text)
  local known = parsed and type(stop) == 'table' and type(stop.scope) == 'table' and tonumber(stop.since_ms)
    and (stop.scope.all == true or type(stop.scope.selectors) == 'table')
  if not known then stop = {since_ms = 0, scope = {all = true}} end
  stop.id, stop.text = id, text
  return stop
end

-- The stops in force, the latest first; read once per call.
read_stops = function()
  local stops = CALL.stops
  if stops then return stops end
  stops = {}
  CALL.stops = stops
  if server.call('EXISTS', stops_key()) == 0 then return stops end
  local found = server.call('HGETALL', stops_key())
  for i = 1, #found, 2 do stops[#stops + 1] = parse(found[i], found[i + 1]) end
  table.sort(stops, function(one, other)
    if one.since_ms ~= other.since_ms then return one.since_ms > other.since_ms end
    return one.id > other.id
  end)
  return stops
end

local function labels_of(agent_id)
  local parsed, labels = pcall(cjson.decode, server.call('HGET', session_key(agent_id), 'labels') or '{}')
  return parsed and type(labels) == 'table' and labels or {}
end

-- The latest stop in force for an agent, or nil. `labels` are those of its session as JSON, nil to read them if needed.
stop_of = function(agent_id, labels)
  local stops = read_stops()
  if #stops == 0 then return nil end
  local known
  for _, stop in ipairs(stops) do
    if stop.scope.all then return stop end
    for _, selector in ipairs(stop.scope.selectors) do
      local label, value = string.match(selector, '^([^=]*)=(.*)$')
      if not label then
        if matches_wildcards(selector, agent_id) then return stop end
      else
        known = known or (labels and cjson.decode(labels)) or labels_of(agent_id)
        if known[label] and matches_wildcards(value, known[label]) then return stop end
      end
    end
  end
  return nil
end
