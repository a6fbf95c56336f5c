-- wish.lua: sets fields of a hash in which an operator asks for something: a pause, a worker's
-- replacement, a run of a schedule, a session. A script can do this even if Redis is full.
--
-- KEYS  1 the hash   2 (optional) a zset that indexes the latest hashes of this kind
-- ARGV  1 seconds until the hash expires (0: its expiry stays)   2 how many entries the zset keeps
--       3 the hash's score in the zset   4 its name in the zset   5.. field, value
-- Answer: how many of the fields are new.

begin_writing()
local new = redis.call('HSET', KEYS[1], unpack(ARGV, 5))
if ARGV[1] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
if KEYS[2] then
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[4])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[2])
end
return new
