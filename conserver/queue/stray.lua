-- stray.lua: what the hash says a consumer holds and the consumer does not know (a failover can do
-- that) goes back, nothing counted. Only epochs up to the last answered claim: a claim on its way
-- is not a stray.
--
-- KEYS  1 conserver:inflight:<consumer>   ARGV  1 last answered claim   2.. the tokens held
--       Answer: how many went back.

local known, strays = {}, 0
for index = 2, #ARGV do
  known[ARGV[index]] = true
end
for _, token in ipairs(redis.call('HKEYS', KEYS[1])) do
  local record = not known[token] and parse(redis.call('HGET', KEYS[1], token))
  -- What cannot be pushed stays held: claims tell of that key, and the next look finds it here.
  if record and tonumber(record.epoch) <= tonumber(ARGV[1])
    and not barrier(way_back(record), 'list') then
    if strays == 0 then
      open()
    end
    let_go(KEYS[1], record)
    send_back(record)
    strays = strays + 1
  end
end
return strays
