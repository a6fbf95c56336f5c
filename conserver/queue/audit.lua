-- audit.lua: adds an entry to conserver:audit, even if Redis is full.
--
-- KEYS  1 conserver:audit   ARGV  1 the entry   2 how many entries are kept
--
-- If the newest entry is equal, the call was repeated, and the script adds nothing.

begin_writing()
if redis.call('LRANGE', KEYS[1], -1, -1)[1] == ARGV[1] then
  return 0
end
local too_many = redis.call('RPUSH', KEYS[1], ARGV[1]) - ARGV[2]
if too_many > 0 then
  redis.call('LPOP', KEYS[1], whole(too_many))
end
return 1
