-- return.lua: gives back what a dead consumer holds. Whoever saw the death says who is blamed.
--
-- KEYS  1 the host's hash   2 conserver:inflight:<consumer>   3 conserver:hosts
-- ARGV  1 consumer   2 blame: "nobody", "items" or "everything"   3 most items in this call   4
--       host
--       5 how many blamed items, then their tokens and epochs; then the tokens of items killed for
--       their own time limit
-- Answer: {returned now, still held, suspects among the returned, deliveries counted}.
--
-- The registration is void from the first call on: its claims are refused while items still go
-- back. It is forgotten in the call that finds nothing held. The blamed become suspects; a delivery
-- is counted for a suspect that had begun, and for an item past its own time limit, once. Nothing
-- is counted where nobody is blamed. A suspect stays one. An overdue item is among the blamed ones,
-- whose epochs are compared: one that a late claim of the dead took again never ran there.

local consumer, blame, most, inflight = ARGV[1], ARGV[2], tonumber(ARGV[3]), KEYS[2]
local field = 'consumer:' .. consumer
local blamed, overdue = {}, {}
local last = 5 + 2 * ARGV[5]
for index = 6, last, 2 do
  blamed[ARGV[index]] = ARGV[index + 1]
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

local returned, suspects, counted = 0, 0, 0
local page = redis.call('HRANDFIELD', inflight, most, 'WITHVALUES')
for index = 1, #page, 2 do
  local record = parse(page[index + 1])
  local begun = record.begun and record.suspect
  local named = blamed[record.token] == record.epoch
  let_go(inflight, record)
  if blame ~= 'nobody' and (begun or (named and overdue[record.token])) then
    record.deliveries = record.deliveries + 1
    counted = counted + 1
  end
  if blame == 'everything' or (blame == 'items' and named) then
    record.suspect = true
  end
  suspects = suspects + (record.suspect and 1 or 0)
  send_back(record)
  returned = returned + 1
end
return { returned, left - returned, suspects, counted }
