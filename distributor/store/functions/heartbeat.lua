-- Purpose: renew the sessions of agents after a heartbeat.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, session_ttl_ms;
--          then for each agent: agent_id, epoch, its vitals as JSON ('' if they have not changed), its silent commands
--          ('' if none fell silent or gave a sign of life since)
-- Returns  for each agent: 1, or 0 if the session is no longer the latest
-- Invariants: a superseded session is never renewed; only changed vitals cause an event.

local HEADER, ITEM = 4, 4

-- `silences` is `id=ms,` for each silent command, or ',' if there is none any more.
-- Replaces how long each has been silent by when it gave its last sign of life.
local function last_signs(silences, now)
  return (string.gsub(silences, '=(%d+)', function(ms) return '=' .. whole(now - tonumber(ms)) end))
end

local function heartbeat(batch, args)
  local outcomes = {}
  for i = HEADER + 1, #args, ITEM do
    local key = session_key(args[i])
    local session = server.call('HMGET', key, 'epoch', 'connected')
    if session[1] == args[i + 1] and session[2] == '1' then
      if args[i + 2] == '' then
        server.call('HSET', key, 'last_seen_ms', batch.stamp)
      else
        server.call('HSET', key, 'last_seen_ms', batch.stamp, 'vitals', args[i + 2])
        announce_agent(batch, args[i], args[i + 1], server.call('HINCRBY', key, 'revision', 1), 'true')
      end
      if args[i + 3] ~= '' then server.call('HSET', key, 'signs', last_signs(args[i + 3], batch.now)) end
      server.call('PEXPIRE', key, args[4])
      outcomes[#outcomes + 1] = 1
    else
      outcomes[#outcomes + 1] = 0
    end
  end
  return outcomes
end

register('heartbeat', heartbeat, {'allow-oom'})
