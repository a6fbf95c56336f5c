-- sweep.lua: deletes reasons of dead letters that have expired. Their payloads stay in DLQ:<list>.
--
-- KEYS  1 conserver:dead:<list>   ARGV  1 how long reasons are kept, in s   2 most to delete
-- Answer: how many were deleted.
--
-- The script counts and removes in one step, because another coordinator may sweep the same list.

local upto = whole(now_us() / 1000 - tonumber(ARGV[1]) * 1000)
local old = math.min(redis.call('ZCOUNT', KEYS[1], '-inf', upto), tonumber(ARGV[2]))
if old > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, old - 1)
end
return old
