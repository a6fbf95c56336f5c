-- sweep.lua: reasons of dead letters that are older than they are kept. Their payloads stay in
-- DLQ:<list>.
--
-- KEYS  1 conserver:dead:<list>   ARGV  1 how long they are kept, in seconds   2 most      Answer:
--       how many went. One step, because another coordinator may sweep the same list between a
--       count
--       and a removal.

local upto = whole(now_us() / 1000 - tonumber(ARGV[1]) * 1000)
local old = math.min(redis.call('ZCOUNT', KEYS[1], '-inf', upto), tonumber(ARGV[2]))
if old > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, old - 1)
end
return old
