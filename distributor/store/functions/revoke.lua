-- Purpose: revoke what an agent or a service has, or a token.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, kind ('agent' or 'service' or 'token'), its id or name, who
--          revokes it, why
-- Returns  the entry of the list as JSON
-- Invariants: an agent's later enrolments count, but not with tokens that were made for it alone before; a revoked
--          enrolment token serves no more; what a service is issued later counts.

local function revoke(batch, args)
  local kind, subject = args[4], args[5]
  if kind == 'agent' then
    local tokens = enrolment_tokens_key(subject)
    for _, token_id in ipairs(server.call('SMEMBERS', tokens)) do
      server.call('DEL', enrolment_token_key(token_id))
    end
    server.call('DEL', tokens)
    local generation = server.call('HGET', generations_key(), subject) or '0'
    return note_revocation(batch, kind, subject, {generation = generation, revoked_by = args[6], reason = args[7]})
  end
  if kind == 'token' then server.call('DEL', enrolment_token_key(subject)) end
  return note_revocation(batch, kind, subject, {generation = '0', revoked_by = args[6], reason = args[7]})
end

register('revoke', revoke, {'allow-oom'})
