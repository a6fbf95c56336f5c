-- begin.lua: marks suspects as begun, for this epoch only. A worker runs a suspect only after this
-- answer: a death from here on counts a delivery, one before it does not.
--
-- KEYS  1 conserver:inflight:<consumer>      ARGV  token, epoch      Answer 1, or 0 when the item
--       was taken away.

local record = held(KEYS[1], ARGV[1], ARGV[2])
if not record then
  return 0
end
open()
record.begun = true
redis.call('HSET', KEYS[1], record.token, build(record))
return 1
