-- unbell.lua: what a bell has moved from a list to returned, and nobody has claimed, goes back to
-- the head of the list. For lists that are served no more: what the bell moves is a bare payload
-- still, and other tools look for it on the list.
--
-- KEYS  1 the list   2 conserver:returned:<list>   ARGV  1 how many entries to look at, from the
--       tail, where the bell puts them   2 most bytes to look at      Answer: how many went back;
--       there may be more of them unless it is 0. Executed twice, or beside a bell that rings, it
--       only moves a payload once more.

if not is_list(KEYS[1]) then
  return 0
end
open()
local most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local moved, passed, bytes = 0, 0, 0
while moved + passed < most and bytes < most_bytes do
  -- One by one: each may be a whole document.
  local text = redis.call('LRANGE', KEYS[2], -1 - passed, -1 - passed)[1]
  if not text then
    break
  end
  bytes = bytes + #text
  if string.byte(text, 1) == 1 then -- a record: it stays
    passed = passed + 1
  else
    redis.call('LREM', KEYS[2], -1, text)
    redis.call('LPUSH', KEYS[1], text)
    moved = moved + 1
  end
end
return moved
