-- begin.lua: marks a suspect as begun, for this epoch only.
--
-- KEYS  1 conserver:inflight:<consumer>   ARGV  1 token   2 epoch
-- Answer 1, or 0 if the item was taken from the consumer.
--
-- A worker runs a suspect only after this answer. A death of the worker counts for the suspect only
-- if it comes after this call.

local record = held(KEYS[1], ARGV[1], ARGV[2])
if not record then
  return 0
end
begin_writing()
record.begun = true
redis.call('HSET', KEYS[1], record.token, build(record))
return 1
