-- purge.lua: deletes one dead letter: first the reason, then the payload (replay.lua says why).
--
-- KEYS  1 DLQ:<list>   2 conserver:dead:<list>
-- ARGV  1 the member of conserver:dead ("" for a payload without one)   2 its payload
-- Answer 1, or 0 if it was gone already.

if not is_list(KEYS[1]) then
  return 0
end
begin_writing()
if ARGV[1] ~= '' and redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
return redis.call('LREM', KEYS[1], 1, ARGV[2])
