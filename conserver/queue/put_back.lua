-- put_back.lua: moves bare payloads from conserver:returned:<list> back to the head of the list.
--
-- KEYS  1 the list   2 conserver:returned:<list>
-- ARGV  1 most entries to look at, from the tail, where the list waiters put them   2 most bytes
-- Answer: how many were moved; there may be more unless it is 0.
--
-- For lists that are served no more: a list waiter (BLMOVE) has moved their payloads, nobody has
-- claimed them, and other tools look for them on the list. Executed twice, or beside a list waiter,
-- it moves a payload once more and loses none.

if not is_list(KEYS[1]) then
  return 0
end
begin_writing()
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
