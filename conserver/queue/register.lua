-- register.lua: a supervisor's host registers one consumer, before that child starts. May be
-- repeated.
--
-- KEYS  1 the host's hash   2 conserver:hosts   3 conserver:lists
-- ARGV  1 host   2 consumer   3.. the lists that it will claim from
-- Answer 1, or 0 for a consumer that has died and been forgotten: late calls of its own would pass
-- every fence again, under the numbers that they had. A registration that exists is left as it is:
-- its number must not go back, and a void one stays void.

if redis.call('EXISTS', tombstone(ARGV[2])) == 1 then
  return 0
end
open()
redis.call('HSETNX', KEYS[1], 'consumer:' .. ARGV[2], '0')
redis.call('SADD', KEYS[2], ARGV[1])
for index = 3, #ARGV do
  redis.call('SADD', KEYS[3], ARGV[index])
end
return 1
