-- put_back.lua: moves bare payloads from conserver:returned:<list> back to the head of the list.
--
-- KEYS  1 the list   2 conserver:returned:<list>
-- ARGV  1 most entries to look at, from the tail, where the list waiters put them   2 most bytes
-- Answer: how many were moved; call again until it is 0.
--
-- It is for lists that no host serves now. A list waiter (BLMOVE) had moved the payloads, no worker
-- has claimed them, and other tools look for them on the ingress list. If the script runs twice, or
-- while a list waiter moves payloads, it may move a payload once more, but loses none.

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
