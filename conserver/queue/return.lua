-- return.lua: returns the items of a dead consumer to the queue. The caller names the items that
-- may have caused the death (the "blamed" items).
--
-- KEYS  1 the host's hash   2 conserver:inflight:<consumer>   3 conserver:hosts
-- ARGV  1 consumer   2 blame: "nobody", "items" or "everything"   3 most items in this call
--       4 host
--       5 how the consumer died, for items without a note of their own ('' for none)
--       6 for how long the documents of cancelled items are kept, in seconds (0: for ever)
--       7 how many blamed items, then for each: token, epoch, note; then the tokens of the blamed
--       items that were over their own time limit
-- Answer: a list of numbers:
--       1 items that this call returned   2 items that the consumer still holds
--       3 suspects among the returned items   4 items for which the death was counted
--       and, only if the consumer held items:
--       5 elements that are no records, and were moved to conserver:strange:<consumer>
--       6 cancelled items that this call has ended
--       If none of the remaining items can be returned, it raises the error "WRONGTYPE <key>".
--
-- The first call makes the registration void, so that claims of the consumer are refused while its
-- items go back. The call that finds no held item deletes the registration; for an hour the same id
-- cannot be registered again (register.lua).
--
-- Blamed items become suspects; an item that is a suspect already stays a suspect. If the blame is
-- not "nobody", the death is counted for each suspect that had begun and for each item over its
-- time limit. A blamed token counts only with its epoch. Another epoch means that the worker had
-- let the item go and claimed it again: the blame is for the earlier claim. A blamed item gets the
-- note, which becomes part of the reason if the item is dead-lettered later.

local consumer, blame, most, inflight = ARGV[1], ARGV[2], tonumber(ARGV[3]), KEYS[2]
local field = 'consumer:' .. consumer
local blamed, over_limit, notes = {}, {}, {}
local last = 7 + 3 * ARGV[7]
for index = 8, last, 3 do
  blamed[ARGV[index]], notes[ARGV[index]] = ARGV[index + 1], ARGV[index + 2]
end
for index = last + 1, #ARGV do
  over_limit[ARGV[index]] = true
end

begin_writing()
local left = redis.call('HLEN', inflight)
if left == 0 then
  if redis.call('HDEL', KEYS[1], field) == 1 then
    redis.call('SET', tombstone(consumer), '', 'EX', GONE_S)
  end
  return { 0, 0, 0, 0 }
end
redis.call('HSET', KEYS[1], field, 'void')
redis.call('SADD', KEYS[3], ARGV[4])

local function note_death(record)
  local note = notes[record.token] or ARGV[5]
  if note ~= '' then
    record.note = ':' .. note
  end
end

-- The work of a call is bounded by bytes, too: a record may contain a whole document, and setting
-- the expiry of a RedisJSON document reads the document.
local MOST_BYTES = 1048576
local returned, suspects, deaths, bytes, barred = 0, 0, 0, 0, nil
local strange, ended = 0, 0
local function return_one(record)
  local begun = record.begun and record.suspect
  local named = blamed[record.token] == record.epoch
  let_go(inflight, record)
  if blame ~= 'nobody' and (begun or (named and over_limit[record.token])) then
    record.deaths = record.deaths + 1
    deaths = deaths + 1
    note_death(record)
  end
  if blame == 'everything' or (blame == 'items' and named) then
    record.suspect = true
    if named or record.note == '' then -- keep an older note: it says why the item was blamed
      note_death(record)
    end
  end
  suspects = suspects + (record.suspect and 1 or 0)
  send_back(record)
  returned = returned + 1
end

-- Returns whether `returned` or `suspects` of the item's list cannot take records.
local function bars(record)
  for _, place in ipairs({ 'conserver:returned:', 'conserver:suspects:' }) do
    if barrier(place .. record.list, 'list') then
      barred = place .. record.list
      return true
    end
  end
  return false
end

-- Items that an operator has cancelled end here. If they were returned, they would run again.
local cancelled = {}
for _, token in ipairs(read('SMEMBERS', 'conserver:cancelled:' .. consumer) or {}) do
  cancelled[token] = true
end

for _, token in ipairs(redis.call('HRANDFIELD', inflight, most)) do
  if bytes >= MOST_BYTES then
    break
  end
  local text = redis.call('HGET', inflight, token)
  local record = parse(text)
  bytes = bytes + #text
  if not record then
    redis.call('HSET', 'conserver:strange:' .. consumer, token, text)
    redis.call('HDEL', inflight, token)
    strange = strange + 1
  elseif cancelled[token] and cannot_notify(token, 'cancelled') then
    barred = NOTIFICATIONS
  elseif cancelled[token] then
    let_go(inflight, record)
    set_job_status(token, 'cancelled')
    bytes = bytes + expire_with_record(record, tonumber(ARGV[6]), now_us())
    ended = ended + 1
  -- While one of the list's keys is barred, none of its items is returned, blamed or not.
  elseif not bars(record) then
    return_one(record)
  end
end
if barred and returned + strange + ended == 0 then
  return wrong_type(barred)
end
return { returned, left - returned - strange - ended, suspects, deaths, strange, ended }
