-- Purpose: check whether Valkey accepts writes. Changes nothing.
-- KEYS     none
-- ARGV     none
-- Returns  1; an error if Valkey rejects functions that write: it cannot save, or lacks required replicas
-- Invariants: succeeds on a full Valkey, like every function that lets a command end.

local function probe(keys, args)
  return 1
end

register('probe', probe, {'allow-oom'})
