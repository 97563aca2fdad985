-- Purpose: check whether Valkey accepts writes. Changes nothing.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep
-- Returns  1; an error if Valkey rejects functions that write: it cannot save, or lacks required replicas
-- Invariants: succeeds on a full Valkey, like every function that lets a command end.

local function probe(batch, args)
  return 1
end

register('probe', probe, {'allow-oom'})
