-- return.lua: returns the items of a dead consumer to the queue. The caller names the items that
-- may have caused the death (the "blamed" items).
--
-- KEYS  1 the host's hash   2 conserver:inflight:<consumer>   3 conserver:hosts
-- ARGV  1 consumer   2 blame: "nobody", "items" or "everything"   3 most items in this call
--       4 host
--       5 note: how the consumer died, for a dead letter ('' for none)
--       6 for how long the documents of cancelled items are kept, in seconds (0: for ever)
--       7... for each blamed item: token, epoch, 1 if this death counts against it (else 0), note
-- Answer: a list of numbers:
--       1 items that this call returned   2 items that the consumer still holds
--       3 suspects among the returned items   4 items for which the death was counted
--       and, only if the consumer held items:
--       5 elements that are no records, and were moved to conserver:strange:<consumer>
--       6 cancelled items that this call has ended
--       If no item that it looked at could be returned, it raises the error "WRONGTYPE <key>".
--
-- The first call makes the registration void, so that claims of the consumer are refused while its
-- items go back. The call that finds no held item deletes the registration; for an hour the same id
-- cannot be registered again (register.lua).
--
-- Which items are blamed, and against which items the death counts: supervisor/death.py. A blamed
-- item becomes a suspect and gets the note, for its dead letter. The death also counts against each
-- suspect that had begun, unless the blame is "nobody". Blame with another epoch is ignored: it is
-- for an earlier claim of the item.

local consumer, blame, most, inflight = ARGV[1], ARGV[2], tonumber(ARGV[3]), KEYS[2]
local field = 'consumer:' .. consumer
local blamed = {}
for index = 7, #ARGV, 4 do
  local claim = ARGV[index] .. ' ' .. ARGV[index + 1]
  blamed[claim] = { counts = ARGV[index + 2] == '1', note = ARGV[index + 3] }
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

-- The work of a call is bounded by bytes, too: a record may contain a whole document, and setting
-- the expiry of a RedisJSON document reads the document.
local MOST_BYTES = 1048576
local returned, suspects, deaths, bytes, barred = 0, 0, 0, 0, nil
local strange, ended = 0, 0
local function return_one(record)
  local begun = record.begun and record.suspect
  local own = blamed[record.token .. ' ' .. record.epoch]
  let_go(inflight, record)
  local counts = blame ~= 'nobody' and (begun or (own and own.counts))
  if counts then
    record.deaths = record.deaths + 1
    deaths = deaths + 1
  end
  if own or blame == 'everything' then
    record.suspect = true
  end
  local note = own and own.note or ARGV[5]
  -- With "everything", keep an older note: it says why the item was blamed then.
  local noted = counts or own or (blame == 'everything' and record.note == '')
  if noted and note ~= '' then
    record.note = ':' .. note
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
