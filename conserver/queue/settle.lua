-- settle.lua: ends items: out of flight, their uuid to each egress list, the effects of their links, their expiry.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 largest document that an answer carries
--       then for each item: token, epoch, uuid, base revision, chain, body ('' leaves the document), expiry in s (0 keeps
--       the far one), n, n pairs of list and uuid to push, m, m pairs of storage and ETag
-- Answer, for each item: {"settled"}, {"lost"}, {"type", key, TYPE} (nothing was done) or {"conflict", ...} as in write.lua.
--
-- The fence makes egress exactly once: a second execution finds nothing held.

local carry, inflight = tonumber(ARGV[1]), KEYS[1]
local now = now_us()
local answers = {}
open()
local at = 2
while at <= #ARGV do
  local token, epoch, uuid, base, chain, body, seconds = unpack(ARGV, at, at + 6)
  local pushes = at + 8
  local tags = pushes + 2 * ARGV[at + 7] + 1
  local after = tags + 2 * ARGV[tags - 1]
  local record = held(inflight, token, epoch)
  local answer
  if not record then
    answer = { 'lost' }
  end
  for index = pushes, tags - 2, 2 do
    local good, kind = is_list(ARGV[index])
    if not answer and not good then
      answer = { 'type', ARGV[index], kind }
    end
  end
  local revision = base
  if not answer and body ~= '' then
    local refusal, written = swap(uuid, tonumber(base), body, chain, now, carry)
    if refusal and refusal[1] == 'type' then
      refusal = { 'type', 'vcon:' .. uuid, refusal[2] }
    end
    answer, revision = refusal, written
  end
  if not answer then
    redis.call('HDEL', inflight, token)
    for index = pushes, tags - 2, 2 do
      redis.call('RPUSH', ARGV[index], ARGV[index + 1])
    end
    for index = tags, after - 1, 2 do
      redis.call('HSET', 'conserver:revision:' .. uuid, 'e:' .. ARGV[index], ARGV[index + 1])
    end
    if tonumber(seconds) > 0 then
      expire(uuid, tonumber(revision), tonumber(seconds), now)
    end
    answer = { 'settled' }
  end
  answers[#answers + 1] = answer
  at = after
end
return answers
