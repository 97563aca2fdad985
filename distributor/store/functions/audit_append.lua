-- Purpose: append rows to the audit trail, if its head still is the one that they continue.
-- KEYS     the event stream of the shard
-- ARGV     replica, 'MAXLEN' or 'MINID', events to keep, MAC of the present head ('' if there is no trail), new head,
--          its MAC, id of the chain, segment of the rows, number of the first row, segment that is closed ('' if none),
--          its manifest, the MAC of that, first segment to drop ('' if none), last segment to drop, checkpoint ('' if
--          there is no new one);
--          then for each row: the row, its MAC
-- Returns  1 if the rows were stored, 0 if the head is another; Valkey's time in ms; the head and its MAC as they are
--          now ('' and '' if there is no trail)
-- Invariants: rows, head, manifest and dropped segments change together or not at all. Manifests are never dropped.
--          Works on a full Valkey: whoever fills it must not act unseen.

local HEADER, ITEM = 15, 2

local function audit_append(batch, args)
  local head = server.call('HMGET', audit_head_key(), 'head', 'mac')
  if (head[2] or '') ~= args[4] then return {0, batch.now, head[1] or '', head[2] or ''} end
  local rows, number = audit_segment_key(args[7], args[8]), tonumber(args[9])
  for i = HEADER + 1, #args, ITEM do
    server.call('XADD', rows, whole(number) .. '-0', 'row', args[i], 'mac', args[i + 1])
    number = number + 1
  end
  if args[10] ~= '' then
    server.call('HSET', audit_manifests_key(args[7]), args[10], args[12] .. ' ' .. args[11])
  end
  if args[13] ~= '' then
    for segment = tonumber(args[13]), tonumber(args[14]) do
      server.call('UNLINK', audit_segment_key(args[7], whole(segment)))
    end
  end
  if args[15] ~= '' then server.call('SET', audit_checkpoint_key(), args[15]) end
  server.call('HSET', audit_head_key(), 'head', args[5], 'mac', args[6])
  return {1, batch.now, args[5], args[6]}
end

register('audit_append', audit_append, {'allow-oom'})
