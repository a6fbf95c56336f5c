-- hurry.lua: makes one parked record due earlier. The record stays parked until promote.lua moves
-- it.
--
-- KEYS  1 conserver:parked:<list>   ARGV  1 the record   2 its new due time, in ms by Redis's clock
-- Answer: 1, or 0 if the record is not parked, or is due earlier anyway.

local due_ms = read('ZSCORE', KEYS[1], ARGV[1])
if not due_ms or tonumber(due_ms) <= tonumber(ARGV[2]) then
  return 0
end
begin_writing()
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
set_job_status(string.match(ARGV[1], '^\1(%S+) ') or '', 'waiting', 'retry_at_ms', ARGV[2])
return 1
