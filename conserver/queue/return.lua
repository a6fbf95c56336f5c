-- return.lua: gives back what a dead consumer holds. Whoever saw the death says who is blamed.
--
-- KEYS  1 the host's hash   2 conserver:inflight:<consumer>   3 conserver:hosts
-- ARGV  1 consumer   2 blame: "nobody", "items" or "everything"   3 most items in this call   4
--       host
--       5 note of how it died, for those without one of their own ('' for none)
--       6 how many blamed items, then for each: token, epoch, note; then the tokens of items killed
--       for their own time limit
-- Answer: {returned now, still held, suspects among the returned, deliveries counted}, or WRONGTYPE
--       and the key where nothing of what is left can go.
--
-- The registration is void from the first call on: its claims are refused while items still go
-- back. It is forgotten in the call that finds nothing held. The blamed become suspects; a delivery
-- is counted for a suspect that had begun, and for an item past its own time limit, once. Nothing
-- is counted where nobody is blamed. A suspect stays one. An overdue item is among the blamed ones,
-- whose epochs are compared: one that a late claim of the dead took again never ran there. Whatever
-- is blamed takes the note along, for the reason of its dead letter.

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
  redis.call('HDEL', KEYS[1], field)
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
local MOST_BYTES = 4194304
local returned, suspects, counted, bytes, barred = 0, 0, 0, 0, nil
local function give_back(record)
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

for _, token in ipairs(redis.call('HRANDFIELD', inflight, most)) do
  if bytes > MOST_BYTES then
    break
  end
  local text = redis.call('HGET', inflight, token)
  local record = parse(text)
  bytes = bytes + #text
  -- Blamed or not: what belongs to this list stays together while one of its places is barred.
  for _, place in ipairs({ 'conserver:returned:', 'conserver:suspects:' }) do
    if barrier(place .. record.list, 'list') then
      barred, record = place .. record.list, nil
      break
    end
  end
  if record then
    give_back(record)
  end
end
if barred and returned == 0 then
  return wrong_type(barred)
end
return { returned, left - returned, suspects, counted }
