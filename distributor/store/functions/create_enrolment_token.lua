-- Purpose: store an enrolment token, without its secret.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, token id, digest of its secret, agent id or pattern of ids,
--          labels (JSON), how many agents may enrol with it, lifetime_ms
-- Returns  when it expires, in milliseconds since the epoch
-- Invariants: a token expires with its key; those for one agent alone are known by that agent.

local function create_enrolment_token(batch, args)
  local key = enrolment_token_key(args[4])
  local expires_ms = whole(batch.now + args[9])
  server.call('HSET', key, 'digest', args[5], 'agents', args[6], 'labels', args[7], 'left', args[8],
    'expires_ms', expires_ms)
  server.call('PEXPIRE', key, args[9])
  if not string.find(args[6], '[*?]') then
    local tokens = enrolment_tokens_key(args[6])
    server.call('SADD', tokens, args[4])
    if server.call('PTTL', tokens) < tonumber(args[9]) then server.call('PEXPIRE', tokens, args[9]) end
  end
  return expires_ms
end

register('create_enrolment_token', create_enrolment_token, {})
