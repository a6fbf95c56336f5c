-- spend.lua: counts the bytes or jobs of an API token in a window (a day or a minute), up to a
-- limit.
--
-- KEYS  1 a hash: window, count
-- ARGV  1 the amount to add   2 the limit per window   3 length of a window, in s; windows begin at
--       multiples of this length since 1970 (UTC)   4 now, in s since 1970 (0: by Redis's clock)
-- Answer {1, amount used in this window, with the addition}; or {0, amount used in this window,
--       seconds until the next window}: the addition would exceed the limit, and was not counted;
--       or {"type", key, TYPE} if the key has the wrong type.

local more, most, window_s = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now_s = tonumber(ARGV[4])
if now_s == 0 then
  now_s = math.floor(now_us() / 1000000)
end
local window = math.floor(now_s / window_s)
local known = read('HMGET', KEYS[1], 'window', 'count')
if not known then
  return { 'type', KEYS[1], kind_of(KEYS[1]) }
end
local used = tonumber(known[1] or nil) == window and tonumber(known[2] or nil) or 0
local left_s = (window + 1) * window_s - now_s
if used + more > most then
  return { 0, whole(used), left_s }
end
begin_writing()
redis.call('HSET', KEYS[1], 'window', whole(window), 'count', whole(used + more))
redis.call('EXPIRE', KEYS[1], left_s)
return { 1, whole(used + more) }
