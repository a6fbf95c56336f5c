-- write.lua: puts documents and progress in place while their items stay in flight (checkpoints,
-- and before storages).
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 number of the write, then for each item: token, epoch, uuid ('' leaves the document),
--       base revision (0 replaces), chain, state, body
-- Answer, for each item: {"written", revision}, {"lost"}, {"late"}, {"type", TYPE} or {"conflict",
-- revision, chain, text} (text is '' but for RedisJSON: read it with GET).
--
-- A repeated write finds its number in the record and gets the answer that it got first.

local number, inflight = tonumber(ARGV[1]), KEYS[1]
local now = now_us()
local answers = {}
open()
for index = 2, #ARGV, 7 do
  local token, epoch, uuid, base, chain, state, body = unpack(ARGV, index, index + 6)
  local record = held(inflight, token, epoch)
  local answer
  if not record then
    answer = { 'lost' }
  elseif record.write == number then
    answer = { 'written', record.revision }
  elseif record.write > number then
    answer = { 'late' }
  else
    local refusal, revision
    if uuid ~= '' then
      refusal, revision = swap(uuid, tonumber(base), body, chain, now)
    end
    if refusal then
      answer = refusal
    else
      record.write, record.revision, record.state = number, revision or base, state
      if uuid ~= '' then
        record.payload = uuid
      end
      redis.call('HSET', inflight, token, build(record))
      answer = { 'written', record.revision }
    end
  end
  answers[#answers + 1] = answer
end
return answers
