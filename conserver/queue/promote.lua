-- promote.lua: parked records whose time has come go to returned, suspects to suspects.
--
-- KEYS  1 conserver:parked:<list>   ARGV  1 most   2 score up to which ('' for now)   3 most bytes
-- Answer: how many were moved, there may be more of them unless it is 0; or WRONGTYPE and the key
--       where none of them can go.

local most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[3])
local upto = ARGV[2] ~= '' and ARGV[2] or whole(now_us() / 1000)
local moved, passed, bytes, barred = 0, 0, 0, nil

-- Where a record goes back to. Nothing in it changes: its header says so, and what follows that may
-- be a whole document. What is no record somebody else has put there: it goes on as if it had been
-- pushed, and if it is no vCon either, its dead letter says so.
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
    mark(string.match(text, '^\1(%S+) ') or '', 'queued', 'retry_at_ms', '')
    moved = moved + 1
  else
    barred, passed = place, passed + 1
  end
end
if barred and moved == 0 then
  return wrong_type(barred)
end
return moved
