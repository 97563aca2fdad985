-- Purpose: read the head of the audit trail and its last checkpoint.
-- KEYS     the event stream of the shard
-- ARGV     none
-- Returns  Valkey's time in ms; the head and its MAC ('' and '' if there is no trail); the last checkpoint ('' if there
--          is none)
-- Invariants: all parts are from the same moment.

local function audit_state(args)
  local head = server.call('HMGET', audit_head_key(), 'head', 'mac')
  local checkpoint = server.call('GET', audit_checkpoint_key())
  return {new_batch().now, head[1] or '', head[2] or '', checkpoint or ''}
end

register_reader('audit_state', audit_state)
