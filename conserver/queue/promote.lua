-- promote.lua: parked records whose time has come go to returned, suspects to suspects.
--
-- KEYS  1 conserver:parked:<list>   ARGV  1 most   2 score up to which ('' for now)   Answer: how
--       many were moved.

local upto = ARGV[2] ~= '' and ARGV[2] or whole(now_us() / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', upto, 'LIMIT', 0, tonumber(ARGV[1]))
for _, text in ipairs(due) do
  redis.call('ZREM', KEYS[1], text)
  send_back(parse(text))
end
return #due
