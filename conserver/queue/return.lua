-- return.lua: gives back what a dead consumer holds. Whoever saw the death says who is blamed.
--
-- KEYS  1 the host's hash   2 conserver:inflight:<consumer>   3 conserver:hosts
-- ARGV  1 consumer   2 blame: "nobody", "items" or "everything"   3 most items in this call   4
--       host
--       5 note of how it died, for those without one of their own ('' for none)
--       6 how many blamed items, then for each: token, epoch, note; then the tokens of items killed
--       for their own time limit
-- Answer: {returned now, still held, suspects among the returned, deliveries counted, how much was
--       no record and was moved to conserver:strange:<consumer>, where it is in nobody's way, how
--       many had been cancelled and have ended}; or WRONGTYPE and the key where nothing of what is
--       left can go.
--
-- The registration is void from the first call on: its claims are refused while items still go
-- back. It is forgotten in the call that finds nothing held, for good (register.lua). The blamed
-- become suspects; a delivery is counted for a suspect that had begun, and for an item past its own
-- time limit, once. Nothing is counted where nobody is blamed. A suspect stays one. An overdue item
-- is among the blamed ones, whose epochs are compared: one that a late claim of the dead took again
-- never ran there. Whatever is blamed takes the note along, for the reason of its dead letter.

local consumer, blame, most, inflight = ARGV[1], ARGV[2], tonumber(ARGV[3]), KEYS[2]
local field = 'consumer:' .. consumer
local blamed, overdue, notes = {}, {}, {}
local last = 6 + 3 * ARGV[6]
for index = 7, last, 3 do
  blamed[ARGV[index]], notes[ARGV[index]] = ARGV[index + 1], ARGV[index + 2]
end
for index = last + 1, #ARGV do
  overdue[ARGV[index]] = true
end

open()
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

-- Bounded by what goes through Lua too: a record may carry a whole document.
local MOST_BYTES = 1048576
local returned, suspects, counted, bytes, barred = 0, 0, 0, 0, nil
local strange, ended = 0, 0
local function return_one(record)
  local begun = record.begun and record.suspect
  local named = blamed[record.token] == record.epoch
  let_go(inflight, record)
  if blame ~= 'nobody' and (begun or (named and overdue[record.token])) then
    record.deliveries = record.deliveries + 1
    counted = counted + 1
    note_death(record)
  end
  if blame == 'everything' or (blame == 'items' and named) then
    record.suspect = true
    note_death(record)
  end
  suspects = suspects + (record.suspect and 1 or 0)
  send_back(record)
  returned = returned + 1
end

-- Whether one of the places that items of its list may go to cannot take any.
local function bars(record)
  for _, place in ipairs({ 'conserver:returned:', 'conserver:suspects:' }) do
    if barrier(place .. record.list, 'list') then
      barred = place .. record.list
      return true
    end
  end
  return false
end

-- What an operator has cancelled ends here: it would be run again, maybe for hours.
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
  elseif cancelled[token] then
    let_go(inflight, record)
    mark(token, 'cancelled')
    ended = ended + 1
  -- Blamed or not: what belongs to this list stays together while one of its places is barred.
  elseif not bars(record) then
    return_one(record)
  end
end
if barred and returned + strange + ended == 0 then
  return wrong_type(barred)
end
return { returned, left - returned - strange - ended, suspects, counted, strange, ended }
