-- Purpose: find out whether Valkey takes changes now. Changes nothing.
-- KEYS     none
-- ARGV     none
-- Returns  1; an error where Valkey refuses functions that write: it cannot save, or lacks the replicas it wants
-- Invariants: a full Valkey answers, as it does to all that lets a command end.

local function probe(keys, args)
  return 1
end

register('probe', probe, {'allow-oom'})
