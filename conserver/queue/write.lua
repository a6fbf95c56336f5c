-- write.lua: writes documents and progress of items that stay in flight, at checkpoints and before
-- the storages are written.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 number of the write   2 number of items   3.. their tokens, then for each of them: epoch,
--       uuid ('' leaves the document), base revision (0 replaces, -1: see documents.lua), chain,
--       state, body
-- Answer, for each item: {"written", revision}, {"lost"} (another consumer has the item), {"late"}
--       (a write with a higher number came before), {"type", key, TYPE}, {"refused", RedisJSON's
--       reason not to take the document} or {"conflict", revision, chain, text, replaced} (text is
--       '' except for RedisJSON: read it with GET; replaced is '1' or '').
--
-- The record stores the number of its latest write. A repeated write finds its own number and gets
-- the answer that it got first.

local number, inflight = tonumber(ARGV[1]), KEYS[1]
local now = now_us()
local answers, changed = {}, {}
begin_writing()
local at = 3 + tonumber(ARGV[2])
for place, text in ipairs(texts_held(inflight, 3, at - 1)) do
  local epoch, uuid, base, chain, state, body = unpack(ARGV, at, at + 5)
  local record = text and parse(text)
  local answer
  if not record or record.epoch ~= epoch then
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
      changed[#changed + 1], changed[#changed + 2] = record.token, build(record)
      answer = { 'written', record.revision }
    end
  end
  answers[place] = answer
  at = at + 6
end
in_pieces('HSET', inflight, changed)
return answers
