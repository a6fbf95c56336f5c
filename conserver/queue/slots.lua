-- slots.lua: takes the next free slots of a rate, each for one item.
--
-- KEYS  1 conserver:rate:<name>
-- ARGV  1 time between two slots, in us   2 burst: how many slots may be used at once after a pause
--       3 how many slots are wanted   4 give no slot before this time, in us from now (0: no limit)
--       5 now, in us (0: by Redis's clock)
--       6 give no slot after this time, in us from now (0: no limit)
-- Answer: for each slot the time in us until it may be used. For a slot that was not given: minus
--       the time in us after which to ask again. {"type", key, TYPE} if the key has the wrong type.
--
-- The key holds the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371): one
-- number for any rate and any number of hosts. A slot is never taken back: a repeated call, or an
-- item that does not use its slot, wastes a slot.

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
    -- Ask again when the slot is half as far away as it may be, so that no later slot goes unused.
    waits[place] = whole(farthest / 2 - wait_us)
  end
end
begin_writing()
redis.call('SET', key, whole(given_us), 'PX', whole(math.ceil((given_us - now) / 1000) + 1000))
return waits
