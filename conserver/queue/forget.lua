-- forget.lua: lets documents expire in a second that would expire later anyway, because their items
-- have ended.
--
-- KEYS  1.. conserver:revision:<uuid>, vcon:<uuid>, in pairs
-- Answer: how many documents.
--
-- The document of an unfinished item has no expiry, or an expiry in the year 2200: it stays.

begin_writing()
local count, far_ms = 0, FAR - now_us() / 1000 - 86400000
for index = 2, #KEYS, 2 do
  local left_ms = redis.call('PTTL', KEYS[index])
  if left_ms > 1000 and left_ms < far_ms then
    redis.call('EXPIRE', KEYS[index - 1], 1)
    redis.call('EXPIRE', KEYS[index], 1)
    count = count + 1
  end
end
return count
