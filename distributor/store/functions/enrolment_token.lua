-- Purpose: read an enrolment token.
-- KEYS     the event stream of the shard
-- ARGV     token id, digest of its secret
-- Returns  {agent id or pattern of ids, labels (JSON), how many agents may still enrol with it, expires_ms}; {} if
--          there is no such token, or its secret is another
-- Invariants: without the secret, nothing shows whether a token exists.

local function enrolment_token(args)
  local key = enrolment_token_key(args[1])
  local token = server.call('HMGET', key, 'digest', 'agents', 'labels', 'left', 'expires_ms')
  if token[1] ~= args[2] then return {} end
  return {token[2], token[3], token[4], token[5]}
end

register_reader('enrolment_token', enrolment_token)
