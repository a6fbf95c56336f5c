-- claim.lua: takes items from several lists, in the order given, and names their consumer in the same step.
--
-- KEYS  1 the host's hash   2 conserver:inflight:<consumer>   3 conserver:control   4.. the ingress lists
-- ARGV  1 consumer   2 number of the claim   3 "1" if the worker holds nothing by its own word   4 most items
--       5 most bytes of documents   6 largest document that an answer carries   7 largest payload   8 cap on parked
--       9.. for each list: most items, max deliveries
-- Answer {"ok", more, suspects waiting, {list that cannot be read, its type ...}, {item ...}}, {"void"} or {"late", number}.
-- Item   {record, what, text, revision, chain, {etag field, value ...}}; what: "inline" (the payload is the document),
--       "text", "large" (read it with GET), "missing", or "type:<TYPE>".
--
-- The number is kept in the registration. A lower one is late: nothing. An equal one is a repetition: what of that epoch
-- is still held, nothing new. So a claim whose answer was lost is asked again under its number until it is answered.

local consumer, number, inflight = ARGV[1], tonumber(ARGV[2]), KEYS[2]
local field = 'consumer:' .. consumer
local registered = redis.call('HGET', KEYS[1], field)
if not registered or registered == 'void' then
  return { 'void' }
end
registered = tonumber(registered)
if number < registered then
  return { 'late', whole(registered) }
end

local now = now_us()
local items, bytes, broken = {}, 0, {}
local most, most_bytes, carry, most_payload = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- The document of a claimed record, ready for the answer.
local function present(record, text)
  local item = { text, 'inline', '', '0', '', {} }
  local payload = record.payload
  bytes = bytes + #payload
  if string.sub(payload, 1, 1) ~= '{' then
    local doc = describe(payload)
    if doc.bad then
      item[2] = 'type:' .. doc.kind
    elseif doc.kind == 'none' then
      item[2] = 'missing'
    else
      adopt(doc, now)
      item[4], item[5] = whole(doc.revision), doc.chain
      item[6] = redis.call('HGETALL', doc.revkey)
      if doc.length > carry and not doc.text then
        item[2] = 'large'
      else
        item[2], item[3] = 'text', doc.text or redis.call('GET', doc.key)
        bytes = bytes + doc.length
      end
    end
  end
  items[#items + 1] = item
end

if number == registered then
  local held_now = redis.call('HGETALL', inflight)
  open()
  for index = 2, #held_now, 2 do
    local record = parse(held_now[index])
    if record.epoch == ARGV[2] then
      present(record, held_now[index])
    end
  end
  return { 'ok', 0, 0, broken, items }
end

open()
redis.call('HSET', KEYS[1], field, ARGV[2])

-- A bare payload is an item that nobody has claimed yet: it gets its token and its header here.
local taken = 0
local function take(list, text, max_deliveries)
  local record = parse(text)
  taken = taken + 1
  if not record then
    record = { token = consumer .. '.' .. ARGV[2] .. '.' .. taken, deliveries = 0, seen = whole(math.floor(now / 1000)),
      state = '', payload = text }
  end
  record.epoch, record.list, record.begun, record.write, record.revision = ARGV[2], list, false, 0, '0'
  local reason
  if record.deliveries >= max_deliveries then
    reason = { reason = 'poison', error = 'its worker died ' .. record.deliveries .. ' times while it ran' }
  elseif #record.payload > most_payload then
    reason = { reason = 'oversized', error = 'the pushed document has ' .. #record.payload .. ' bytes, more than '
      .. most_payload .. ': store it at vcon:<uuid> and push its uuid instead' }
  end
  if not reason then
    text = build(record)
    redis.call('HSET', inflight, record.token, text)
    present(record, text)
    return true
  end
  reason.token, reason.list, reason.deliveries = record.token, list, record.deliveries
  reason.time_ms = math.floor(now / 1000)
  bury(record, cjson.encode(reason), now / 1000)
  return false
end

-- Fields of the host's hash that say which suspect it runs; void when it is no longer held.
local runs = redis.call('HGET', KEYS[1], 'suspect')
if runs then
  local runner, token = string.match(runs, '^(%S+) (%S+)$')
  if redis.call('HEXISTS', 'conserver:inflight:' .. runner, token) == 0 then
    runs = nil
  elseif runner == consumer then
    return { 'ok', 0, 0, broken, items } -- it runs its suspect alone
  end
end

local lists = {}
local paused = redis.call('EXISTS', KEYS[3]) == 1
for index = 4, #KEYS do
  local list, argument = KEYS[index], 9 + (index - 4) * 2
  if not (paused and redis.call('HEXISTS', KEYS[3], 'paused:' .. list) == 1) then
    lists[#lists + 1] = { list, tonumber(ARGV[argument]), tonumber(ARGV[argument + 1]) }
  end
end

local suspects = 0
local alone = ARGV[3] == '1' and not runs and redis.call('HLEN', inflight) == 0
for _, entry in ipairs(lists) do
  local key = 'conserver:suspects:' .. entry[1]
  local waiting = redis.call('LLEN', key)
  local tries = 16
  while alone and waiting > 0 and #items == 0 and tries > 0 do
    if is_list('DLQ:' .. entry[1]) then
      take(entry[1], redis.call('LPOP', key), entry[3])
      waiting = waiting - 1
    else
      broken[#broken + 1] = 'DLQ:' .. entry[1]
      broken[#broken + 1] = kind_of('DLQ:' .. entry[1])
      break
    end
    tries = tries - 1
  end
  suspects = suspects + waiting
  if #items > 0 then
    local record = parse(items[1][1])
    redis.call('HSET', KEYS[1], 'suspect', consumer .. ' ' .. record.token)
    return { 'ok', 0, suspects, broken, items }
  end
end

local more = 0
for _, entry in ipairs(lists) do
  local list, left = entry[1], entry[2]
  local function room()
    return left > 0 and #items < most and bytes < most_bytes
  end
  local returned, tries = 'conserver:returned:' .. list, left + 16
  local waiting = redis.call('LLEN', returned)
  local dead_ok, dead_kind = true, nil
  if waiting > 0 then
    dead_ok, dead_kind = is_list('DLQ:' .. list)
  end
  local function drain(key)
    while room() and waiting > 0 and tries > 0 do
      if take(list, redis.call('LPOP', key), entry[3]) then
        left = left - 1
      end
      waiting, tries = waiting - 1, tries - 1
    end
    more = more + waiting
  end
  if dead_ok then
    drain(returned)
  end
  local good, kind = is_list(list)
  if not good then
    broken[#broken + 1] = list
    broken[#broken + 1] = kind
  elseif kind == 'list' then
    if redis.call('ZCARD', 'conserver:parked:' .. list) < tonumber(ARGV[8]) then
      waiting = redis.call('LLEN', list)
      dead_ok, dead_kind = is_list('DLQ:' .. list)
      if dead_ok then
        drain(list)
      end
    end
  end
  if not dead_ok then
    broken[#broken + 1] = 'DLQ:' .. list
    broken[#broken + 1] = dead_kind
  end
end
return { 'ok', more, suspects, broken, items }
