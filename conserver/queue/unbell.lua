-- unbell.lua: what a bell has moved from a list to returned, and nobody has claimed, goes back to
-- the head of the list. For lists that are served no more: what the bell moves is a bare payload
-- still, and other tools look for it on the list.
--
-- KEYS  1 the list   2 conserver:returned:<list>   ARGV  1 how many entries to look at, from the
--       tail, where the bell puts them      Answer: how many went back. Executed twice, or beside a
--       bell that rings, it only moves a payload once more.

if not is_list(KEYS[1]) then
  return 0
end
open()
local tail, moved = redis.call('LRANGE', KEYS[2], -tonumber(ARGV[1]), -1), 0
for index = #tail, 1, -1 do
  if not parse(tail[index]) then
    redis.call('LREM', KEYS[2], -1, tail[index])
    redis.call('LPUSH', KEYS[1], tail[index])
    moved = moved + 1
  end
end
return moved
