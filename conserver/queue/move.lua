-- move.lua: fenced moves out of flight that are not the end: release, park, dead-letter.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 "release" | "park" | "dead"   2 seconds that a dead letter's document is kept (0: for
--       ever)
--       then for each item: token, epoch, state ("=" keeps it), when (park: from now in ms), why
--       (dead: one line of JSON)
-- Answer, for each item: "moved", "lost", or the TYPE of a key that should have been a list
-- (nothing was done).
--
-- Released: an item without state goes to the head of its list as the bare payload that it was, one
-- with state to the head of returned; nothing is counted. A suspect stays one wherever it goes.

local kind, keep_s, inflight = ARGV[1], tonumber(ARGV[2]), KEYS[1]
local now = now_us()
local answers = {}

local function release(record)
  if record.suspect then
    redis.call('LPUSH', 'conserver:suspects:' .. record.list, build(record))
  elseif record.state ~= '' or record.deliveries > 0 or not is_list(record.list) then
    redis.call('LPUSH', 'conserver:returned:' .. record.list, build(record))
  else
    redis.call('LPUSH', record.list, record.payload)
  end
end

open()
for index = 3, #ARGV, 5 do
  local token, epoch, state, after_ms, why = unpack(ARGV, index, index + 4)
  local record = held(inflight, token, epoch)
  local good, found = true, nil
  if record and kind == 'dead' then
    good, found = is_list('DLQ:' .. record.list)
  end
  if not record then
    answers[#answers + 1] = 'lost'
  elseif not good then
    answers[#answers + 1] = found
  else
    let_go(inflight, record)
    if state ~= '=' then
      record.state = state
    end
    if kind == 'release' then
      release(record)
    elseif kind == 'park' then
      local due_ms = whole(now / 1000 + tonumber(after_ms))
      redis.call('ZADD', 'conserver:parked:' .. record.list, due_ms, build(record))
    else
      bury(record, why, now / 1000)
      if keep_s > 0 and string.sub(record.payload, 1, 1) ~= '{' then
        local revision = redis.call('HGET', 'conserver:revision:' .. record.payload, 'r')
        expire(record.payload, tonumber(revision or 0), keep_s, now)
      end
    end
    answers[#answers + 1] = 'moved'
  end
end
return answers
