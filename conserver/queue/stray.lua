-- stray.lua: returns items that the in-flight hash has and the consumer does not know; a failover
-- of Redis can cause that. Nothing is counted.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 the consumer's last answered claim   2 most bytes to look at   3.. the tokens that it
--       knows
-- Answer: how many were returned; there may be more unless it is 0.
--
-- Items of a later epoch are no strays: the answer of that claim may still be on its way.

local known, strays, bytes = {}, 0, 0
for index = 3, #ARGV do
  known[ARGV[index]] = true
end

-- An item that cannot be pushed stays held: claims report that key, and the next call finds it
-- again.
local function return_one(record)
  if tonumber(record.epoch) > tonumber(ARGV[1]) or barrier(way_back(record), 'list') then
    return
  end
  if strays == 0 then
    begin_writing()
  end
  let_go(KEYS[1], record)
  send_back(record)
  strays = strays + 1
end

local tokens = redis.call('HKEYS', KEYS[1])
-- The scan starts at a random place: items that stay must not use up the byte limit of every call.
local first = now_us()
for step = 1, #tokens do
  local token = tokens[(first + step) % #tokens + 1]
  if not known[token] and bytes < tonumber(ARGV[2]) then
    local text = redis.call('HGET', KEYS[1], token)
    bytes = bytes + #text
    local record = parse(text)
    if record then -- return.lua sets other elements aside when the consumer ends
      return_one(record)
    end
  end
end
return strays
