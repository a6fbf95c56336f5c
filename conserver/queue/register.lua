-- register.lua: registers one consumer of a host, before its process starts.
--
-- KEYS  1 the host's hash   2 conserver:hosts   3 conserver:lists
-- ARGV  1 host   2 consumer   3.. the lists that it will claim from
-- Answer 1, or 0 for a consumer that has died and whose registration was deleted: a new
--       registration would begin at number 0, and Redis would accept late claims of the dead
--       consumer.
--
-- An existing registration stays as it is: its number must not decrease, and `void` must stay.

if redis.call('EXISTS', tombstone(ARGV[2])) == 1 then
  return 0
end
begin_writing()
redis.call('HSETNX', KEYS[1], 'consumer:' .. ARGV[2], '0')
redis.call('SADD', KEYS[2], ARGV[1])
for index = 3, #ARGV do
  redis.call('SADD', KEYS[3], ARGV[index])
end
return 1
