-- slots.lua: the next free slots of a rate, for items that are about to use it.
--
-- KEYS  1 conserver:rate:<name>
-- ARGV  1 time between two slots, in us   2 burst: how many slots may be used at once after a pause
--       3 how many are wanted   4 how long none may be given, in us from now (0: no such time)
--       5 now, in us (0: by Redis's clock)
--       6 how far away a slot may be, in us (0: any time): later ones are not given
-- Answer: for each slot the time in us until it may be used; for one that was not given, the time
--       after which to ask again, negative; {"type", key, TYPE} for a key that holds something
--       else.
--
-- The key holds the time at which the rate would be used up evenly (the generic cell rate
-- algorithm, ITU-T I.371): one number for any rate and any number of hosts. A slot that is given is
-- not taken back: a call that is repeated, or an item that does not use its slot, costs one.

local key = KEYS[1]
local interval, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(ARGV[5])
if now == 0 then
  now = now_us()
end
local text = redis.pcall('GET', key)
if type(text) == 'table' then
  return { 'type', key, kind_of(key) }
end
local ahead = (burst - 1) * interval
local farthest = tonumber(ARGV[6]) == 0 and math.huge or tonumber(ARGV[6])
local next_us = math.max(tonumber(text or '') or 0, now)
if ARGV[4] ~= '0' then
  next_us = math.max(next_us, now + tonumber(ARGV[4]) + ahead)
end
local waits, given_us = {}, next_us
for place = 1, wanted do
  local wait_us = math.max(next_us - ahead - now, 0)
  next_us = next_us + interval
  if wait_us <= farthest then
    waits[place], given_us = whole(wait_us), next_us
  else
    -- When its slot is half as far away as it may be: then none behind the given ones is unused.
    waits[place] = whole(farthest / 2 - wait_us)
  end
end
begin_writing()
redis.call('SET', key, whole(given_us), 'PX', whole(math.ceil((given_us - now) / 1000) + 1000))
return waits
