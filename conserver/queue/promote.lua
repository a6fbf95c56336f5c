-- promote.lua: parked records whose time has come go to returned, suspects to suspects.
--
-- KEYS  1 conserver:parked:<list>   ARGV  1 most   2 score up to which ('' for now)   Answer: how
--       many were moved, or WRONGTYPE and the key where none of them can go.

local upto = ARGV[2] ~= '' and ARGV[2] or whole(now_us() / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', upto, 'LIMIT', 0, tonumber(ARGV[1]))
local moved, barred = 0, nil
for _, text in ipairs(due) do
  local record = parse(text)
  local place = way_back(record)
  if not barrier(place, 'list') then
    redis.call('ZREM', KEYS[1], text)
    send_back(record)
    moved = moved + 1
  else
    barred = place
  end
end
if barred and moved == 0 then
  return wrong_type(barred)
end
return moved
