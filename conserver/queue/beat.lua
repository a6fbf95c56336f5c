-- beat.lua: a host says that it lives, and what `status` shows of it.
--
-- KEYS  1 the host's hash   2 conserver:hosts      ARGV  1 host   2 beat   3.. field, value
-- Answer: the consumers registered on this host and their numbers or "void", as a flat list. The
-- host is added to the living ones again each time: one that was wrongly reaped comes back by
-- itself.

open()
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'beat', ARGV[2], unpack(ARGV, 3))
local all, registrations = redis.call('HGETALL', KEYS[1]), {}
for index = 1, #all, 2 do
  local consumer = string.match(all[index], '^consumer:(.*)$')
  if consumer then
    registrations[#registrations + 1] = consumer
    registrations[#registrations + 1] = all[index + 1]
  end
end
return registrations
