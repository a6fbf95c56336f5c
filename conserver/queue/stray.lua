-- stray.lua: what the hash says a consumer holds and the consumer does not know (a failover can do
-- that) goes back, nothing counted. Only epochs up to the last answered claim: a claim on its way
-- is not a stray.
--
-- KEYS  1 conserver:inflight:<consumer>   ARGV  1 last answered claim   2 most bytes to look at
--       3.. the tokens held      Answer: how many went back; there may be more of them unless it
--       is 0.

local known, strays, bytes = {}, 0, 0
for index = 3, #ARGV do
  known[ARGV[index]] = true
end

-- What cannot be pushed stays held: claims tell of that key, and the next look finds it here.
local function return_one(record)
  if tonumber(record.epoch) > tonumber(ARGV[1]) or barrier(way_back(record), 'list') then
    return
  end
  if strays == 0 then
    open()
  end
  let_go(KEYS[1], record)
  send_back(record)
  strays = strays + 1
end

local tokens = redis.call('HKEYS', KEYS[1])
-- It begins anywhere: those that stay must not for ever use up what this call may look at.
local first = now_us()
for step = 1, #tokens do
  local token = tokens[(first + step) % #tokens + 1]
  if not known[token] and bytes < tonumber(ARGV[2]) then
    local text = redis.call('HGET', KEYS[1], token)
    bytes = bytes + #text
    local record = parse(text)
    if record then -- else somebody else has put it there: it is set aside when the consumer ends
      return_one(record)
    end
  end
end
return strays
