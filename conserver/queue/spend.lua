-- spend.lua: counts the bytes that a token sends on a day (UTC), up to as many as it may.
--
-- KEYS  1 conserver:spent:<token>, a hash: day, bytes
-- ARGV  1 how many more   2 how many it may send on a day   3 now, in s since 1970 (0: by Redis's
--       clock)
-- Answer {1, how many it has sent today}, these counted; {0, how many it had sent, seconds until
--       tomorrow}: they would be too many, and nothing was counted; {"type", key, TYPE} for a key
--       that holds something else.

local DAY_S = 86400
local more, most, now_s = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if now_s == 0 then
  now_s = math.floor(now_us() / 1000000)
end
local today = math.floor(now_s / DAY_S)
local known = read('HMGET', KEYS[1], 'day', 'bytes')
if not known then
  return { 'type', KEYS[1], kind_of(KEYS[1]) }
end
local sent = tonumber(known[1] or nil) == today and tonumber(known[2] or nil) or 0
local left_s = (today + 1) * DAY_S - now_s
if sent + more > most then
  return { 0, whole(sent), left_s }
end
open()
redis.call('HSET', KEYS[1], 'day', whole(today), 'bytes', whole(sent + more))
redis.call('EXPIRE', KEYS[1], left_s)
return { 1, whole(sent + more) }
