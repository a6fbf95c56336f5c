-- reap.lua: declares a host dead if its beat has not changed for a whole lease.
--
-- KEYS  1 the host's hash   2 conserver:hosts
-- ARGV  1 host   2 the beat that the caller saw a lease ago ('' for none)
-- Answer: the consumers whose items must be returned (their registrations are void now), or false
--       if the host lives.
--
-- The script deletes a host without registrations. Several coordinators may call it at once.

if (redis.call('HGET', KEYS[1], 'beat') or '') ~= ARGV[2] then
  return false
end
begin_writing()
local all, consumers = redis.call('HGETALL', KEYS[1]), {}
for index = 1, #all, 2 do
  local consumer = string.match(all[index], '^consumer:(.*)$')
  if consumer then
    redis.call('HSET', KEYS[1], all[index], 'void')
    consumers[#consumers + 1] = consumer
  end
end
if #consumers == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[1])
end
return consumers
