-- promote.lua: moves parked records that are due to returned; suspects to suspects.
--
-- KEYS  1 conserver:parked:<list>   ARGV  1 most   2 score up to which ('' for now)   3 most bytes
-- Answer: how many were moved; there may be more unless it is 0. WRONGTYPE and the key if none of
--       them can be moved.

local most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[3])
local upto = ARGV[2] ~= '' and ARGV[2] or whole(now_us() / 1000)
local moved, passed, bytes, barred = 0, 0, 0, nil

-- Returns where a record goes to. Only its header is parsed, because a whole document may follow.
-- An element that is no record was put there by another program: it is treated as if it had been
-- pushed, and becomes a dead letter if it is no vCon.
local function place_of(text)
  local header = string.sub(text, 1, (string.find(text, '\n', 1, true) or 0))
  local record = parse(header)
  return record and way_back(record) or 'conserver:returned:' .. string.sub(KEYS[1], 18)
end

while moved + passed < most and bytes < most_bytes do
  local text = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', upto, 'LIMIT', passed, 1)[1]
  if not text then
    break
  end
  bytes = bytes + #text
  local place = place_of(text)
  if not barrier(place, 'list') then
    redis.call('ZREMRANGEBYRANK', KEYS[1], passed, passed)
    redis.call('RPUSH', place, text)
    set_job_status(string.match(text, '^\1(%S+) ') or '', 'queued', 'retry_at_ms', '')
    moved = moved + 1
  else
    barred, passed = place, passed + 1
  end
end
if barred and moved == 0 then
  return wrong_type(barred)
end
return moved
