-- stray.lua: returns strays: items that are in a consumer's in-flight hash and that its worker does
-- not know. A failover that undid a settle leaves such items, and a release that a key of the wrong
-- type prevented. No death is counted.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 number of the consumer's last answered claim   2 most bytes to look at   3.. the tokens
--       that the worker knows
-- Answer: how many were returned; call again until it is 0.
--
-- Items of a later epoch are no strays: the answer of their claim may still be on its way.

local known, strays, bytes = {}, 0, 0
for index = 3, #ARGV do
  known[ARGV[index]] = true
end

-- Returns one item. It stays in the in-flight hash if its key cannot take it: claims report that
-- key, and the next call of this script tries again.
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
-- The scan starts at a random place, so that items that stay do not use up the byte limit of every
-- call.
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
