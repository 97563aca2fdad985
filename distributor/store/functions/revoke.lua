-- Purpose: revoke what an agent has, or a token.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, 'agent' or 'token', the agent's or token's id, who revokes it,
--          why
-- Returns  the entry of the list as JSON
-- Invariants: an agent's later enrolments count; a revoked enrolment token serves no more.

local function revoke(batch, args)
  local kind, subject = args[4], args[5]
  if kind == 'agent' then
    local generation = server.call('HGET', generations_key(), subject) or '0'
    return note_revocation(batch, kind, subject, {generation = generation, revoked_by = args[6], reason = args[7]})
  end
  server.call('DEL', enrolment_token_key(subject))
  return note_revocation(batch, kind, subject, {generation = '0', revoked_by = args[6], reason = args[7]})
end

register('revoke', revoke, {'allow-oom'})
