-- throttle.lua: throttles a link on all hosts: no worker calls it for a while, because its server
-- has asked for a pause.
--
-- KEYS  1 conserver:control, a hash; its field "throttled" has a line "<until, ms> <link>" for each
--       link. claim.lua answers the lines to the workers, and deletes the field when all times are
--       over
-- ARGV  1 the link   2 for how long from now, in ms
-- Answer: 1, or {"type", key, TYPE} if the key has the wrong type.
--
-- If the link is throttled already, the later end holds. A call that arrives late throttles the
-- link for longer than asked.

local text = read('HGET', KEYS[1], 'throttled')
if text == nil then
  return { 'type', KEYS[1], kind_of(KEYS[1]) }
end
local now_ms = math.floor(now_us() / 1000)
local until_ms, lines = now_ms + tonumber(ARGV[2]), {}
for line_ms, link in string.gmatch(text or '', '(%d+) ([^\n]+)') do
  if link == ARGV[1] then
    until_ms = math.max(until_ms, tonumber(line_ms))
  elseif tonumber(line_ms) > now_ms then
    lines[#lines + 1] = line_ms .. ' ' .. link
  end
end
lines[#lines + 1] = whole(until_ms) .. ' ' .. ARGV[1]
begin_writing()
redis.call('HSET', KEYS[1], 'throttled', table.concat(lines, '\n'))
return 1
