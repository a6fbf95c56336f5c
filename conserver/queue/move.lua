-- move.lua: takes items out of flight without settling them: releases, parks or dead-letters them.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 "release" | "park" | "dead"   2 seconds that a dead letter's document is kept (0: for
--       ever)
--       then for each item: token, epoch, state ("=" keeps it), revision of the document that the
--       state describes, how long to park the item in ms, why (one line of JSON; dead: the reason;
--       park: what the item waits for, or '')
-- Answer, for each item: "moved", "lost" (the consumer does not hold the item under this epoch),
-- or "<TYPE> <key>" of a key that has the wrong type (the item was not moved).
--
-- A released item that has no state and no counted death, and is no suspect, goes to the head of
-- its list as the payload that was pushed, unless the key of the list has the wrong type. A
-- released suspect goes to the head of conserver:suspects:<list>, any other released item to the
-- head of conserver:returned:<list>. A release counts no death.

local kind, keep_s, inflight = ARGV[1], tonumber(ARGV[2]), KEYS[1]
local now = now_us()
local answers = {}

-- Returns whether a released item goes back to its ingress list as a bare payload.
local function is_fresh(record)
  return not record.suspect and record.state == '' and record.deaths == 0
    and not barrier(record.list, 'list')
end

local function release(record)
  if is_fresh(record) then
    local job = job_of(record.token)
    redis.call('LPUSH', record.list, job and record.payload .. '#' .. job or record.payload)
  else
    redis.call('LPUSH', way_back(record), build(record))
  end
  set_job_status(record.token, 'queued', 'link', '')
end

-- Returns "<TYPE> <key>" of a key that cannot take the item, or nil.
local function obstacle(record)
  local list, places = record.list, {}
  if kind == 'park' then
    places = { 'conserver:parked:' .. list, 'zset' }
  elseif kind == 'dead' then
    local kept = cannot_notify(record.token, 'failed')
    if kept then
      return kept .. ' ' .. NOTIFICATIONS
    end
    places = { 'DLQ:' .. list, 'list', 'conserver:dead:' .. list, 'zset' }
  elseif not is_fresh(record) then
    places = { way_back(record), 'list' }
  end
  for index = 1, #places, 2 do
    local found = barrier(places[index], places[index + 1])
    if found then
      return found .. ' ' .. places[index]
    end
  end
end

begin_writing()
for index = 3, #ARGV, 6 do
  local token, epoch, state, revision, after_ms, why = unpack(ARGV, index, index + 5)
  local record = held(inflight, token, epoch)
  local found = record and obstacle(record)
  if not record then
    answers[#answers + 1] = 'lost'
  elseif found then
    answers[#answers + 1] = found
  else
    let_go(inflight, record)
    if state ~= '=' then
      record.state, record.revision = state, revision
    end
    if kind == 'release' then
      release(record)
    elseif kind == 'park' then
      local due_ms = whole(now / 1000 + tonumber(after_ms))
      redis.call('ZADD', 'conserver:parked:' .. record.list, due_ms, build(record))
      set_job_status(record.token, 'waiting', 'link', '', 'retry_at_ms', due_ms, 'error', why)
    else
      dead_letter(record, why, now / 1000)
      expire_with_record(record, keep_s, now)
    end
    answers[#answers + 1] = 'moved'
  end
end
return answers
