-- promote.lua: moves parked records that are due to conserver:returned:<list>; suspects to
-- conserver:suspects:<list>.
--
-- KEYS  1 conserver:parked:<list>
-- ARGV  1 most   2 records up to this score are due ('' for now)   3 most bytes
-- Answer: how many were moved; call again until it is 0. WRONGTYPE and the key if no record that it
--       looked at could be moved.

local most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[3])
local upto = ARGV[2] ~= '' and ARGV[2] or whole(now_us() / 1000)
local moved, passed, bytes, barred = 0, 0, 0, nil

-- Returns the key to which a record goes. Parses only the header, because a whole document may
-- follow. Another program may have put in an element that is no record: such an element is treated
-- like a pushed payload, and a worker dead-letters it if it is no vCon.
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
