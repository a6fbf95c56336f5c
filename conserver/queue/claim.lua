-- claim.lua: moves items from several lists, in the given order, to the consumer that claims them.
--
-- KEYS  1 the host's hash   2 conserver:inflight:<consumer>   3 conserver:control
--       4.. the ingress lists
-- ARGV  1 consumer   2 number of the claim   3 "1" if the worker says that it holds nothing
--       4 most items   5 most bytes of documents   6 "1" to return ETags   7 largest payload
--       8 cap on parked   9 seconds that a job is kept after its end   10 seconds that a job is
--       kept at most
--       11.. for each list: most items; then, if the claim is repeated, the tokens that the
--       worker already holds: their records are left out of the answer
-- Answer {"void"} (the consumer's registration is void), {"late", number}, or a list:
--       1 "ok"   2 how many items still wait on the lists   3 how many suspects wait
--       4 pairs in a flat list: a key that cannot be used, its type
--       5 the claimed items (see Item)
--       6 pairs in a flat list: a throttled link, for how many ms it still is
-- Item   {record, what, text, revision, replaced, {etag field, value ...}}; what: "inline" (the
--       payload is the document), "stored" (text is its length: read it with GET), "text" (of
--       RedisJSON), "missing" or "type:<TYPE> <key>"; or, for an item that must not run, "cut"
--       (its payload is too large: the record has the first 64 KiB, text is the length) or
--       "expired" (text is for how many seconds the presigned URL of its callback has been
--       expired). replaced is "1" if a producer has replaced the document that the record's state
--       describes. An answer with at most FEW items also has the text of each small stored
--       document, as a seventh element of the item.
--
-- The registration stores the number of the latest claim. A lower number is late: the script does
-- nothing. An equal number is a repetition: the script returns the items that the consumer still
-- holds under that epoch. So a worker whose answer was lost repeats the claim under its number.
--
-- A key of the wrong type is reported in the answer. If it is the host's hash or the in-flight
-- hash, nothing is claimed. If it is a key to which items of a list may go later (returned,
-- suspects, parked, dead letters), nothing is claimed from this list.

local consumer, number, inflight = ARGV[1], tonumber(ARGV[2]), KEYS[2]
local field = 'consumer:' .. consumer
local registered, holds = read('HGET', KEYS[1], field), read('HLEN', inflight)
if registered == nil or holds == nil then
  local key = registered == nil and KEYS[1] or inflight
  return { 'ok', 0, 0, { key, kind_of(key) }, {}, {} }
end
if not registered or registered == 'void' then
  return { 'void' }
end
registered = tonumber(registered)
if number < registered then
  return { 'late', whole(registered) }
end

local now = now_us()
local items, bytes, broken, throttled = {}, 0, {}, {}
local most, most_bytes, most_payload = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[7])
local NO_TAGS = {}

-- An answer with few items contains small documents, because that costs less than a second round
-- trip for them.
local FEW, SMALL = 2, 16384
local function answer(more, suspects)
  for index = 1, #items <= FEW and #items or 0 do
    local item = items[index]
    if item[2] == 'stored' and tonumber(item[3]) <= SMALL then
      item[7] = redis.call('GET', 'vcon:' .. parse(item[1]).payload)
    end
  end
  return { 'ok', more, suspects, broken, items, throttled }
end

-- Returns for how many seconds the presigned URL of an item's callback has been expired; nil if the
-- URL is still valid, or if the item has saved progress. An item with an expired URL does not
-- begin, because its result could not be delivered.
local function expired_s(token, state)
  local job = state == '' and job_of(token)
  local known = job and job_read(job)
  local until_ms = known and not ENDS[known[1]] and tonumber(known[4] or nil)
  local left_ms = until_ms and until_ms - now / 1000
  return left_ms and left_ms <= 0 and math.floor(-left_ms / 1000) or nil
end

-- Builds the answer's entry for a claimed item. record: nil for an item that was never claimed
-- before.
local function present(token, text, payload, record)
  -- A byte of a payload passes through Lua, and costs Redis about four times as much as a byte of a
  -- document that the worker reads with GET.
  bytes = bytes + 4 * #payload
  if #payload > most_payload then
    local beginning = string.sub(text, 1, #text - #payload + LARGE)
    return { beginning, 'cut', whole(#payload), '0', '', NO_TAGS }
  end
  local late_s = expired_s(token, record and record.state or '')
  if late_s then
    return { text, 'expired', whole(late_s), '0', '', NO_TAGS }
  end
  if string.byte(payload, 1) == 123 then -- "{": the payload is the document
    return { text, 'inline', '', '0', '', NO_TAGS }
  end
  local doc = describe(payload)
  if doc.bad then
    return { text, 'type:' .. doc.kind .. ' ' .. doc.key, '', '0', '', NO_TAGS }
  elseif doc.kind == 'none' then
    return { text, 'missing', '', '0', '', NO_TAGS }
  end
  local done = record and record.state ~= ''
  adopt(doc, now, done)
  bytes = bytes + doc.length
  local tags = NO_TAGS
  if ARGV[6] == '1' and doc.seen.r then
    tags = redis.call('HGETALL', doc.revkey)
  end
  local revision, replaced = doc.revision_text or doc.seen.r, ''
  if done and doc.replaced > tonumber(record.revision) then
    replaced = '1'
  end
  if doc.text then
    return { text, 'text', doc.text, revision, replaced, tags }
  end
  return { text, 'stored', whole(doc.length), revision, replaced, tags }
end

-- Adds the items to the answer that the consumer still holds under this epoch, without those that
-- the worker already has: they may be 64 MiB. (After a failover such a token may belong to a newer
-- claim of the same item. stray.lua returns that item later.)
local function claimed_before()
  local known = {}
  for index = 8 + #KEYS, #ARGV do
    known[ARGV[index]] = true
  end
  for _, token in ipairs(redis.call('HKEYS', inflight)) do
    local text = not known[token] and redis.call('HGET', inflight, token)
    local record = text and parse(text)
    if record and record.epoch == ARGV[2] then
      items[#items + 1] = present(token, text, record.payload, record)
    end
  end
end

if number == registered then
  begin_writing()
  claimed_before()
  return answer(0, 0)
end

begin_writing()
redis.call('HSET', KEYS[1], field, ARGV[2])

-- Reports a key that cannot be used.
local function tell(key, kind)
  broken[#broken + 1] = key
  broken[#broken + 1] = kind
end

-- Claims elements that were popped from `key`, the head of the list first. Returns how many were
-- claimed. A bare payload becomes a record: it gets its token and its header here. Tokens contain
-- the time, so that they stay unique if a failover has undone a claim and its number is used again.
-- All items enter the in-flight hash before the script reads their documents. Items beyond the byte
-- limit then go back to `key`.
local taken, moment = 0, '.' .. whole(now) .. '.'
local fresh = ' ' .. ARGV[2] .. ' 0 - ' .. whole(math.floor(now / 1000)) .. ' 0 0 0 '
local function take(key, list, popped)
  local claimed, flat, new_jobs = {}, {}, {}
  for _, text in ipairs(popped) do
    local record = parse(text)
    local token, payload, new
    taken = taken + 1
    if record then
      record.epoch, record.list, record.begun = ARGV[2], list, false
      record.write = 0
      token, payload, new = record.token, record.payload, build(record)
    else
      local job
      payload, job = split_job(text)
      token = consumer .. moment .. taken
      if job then
        token = token .. '#' .. job
        new_jobs[#new_jobs + 1] = { job, payload }
      end
      new = '\1' .. token .. fresh .. list .. '\n' .. payload
    end
    claimed[#claimed + 1] = { token, new, payload, text, record }
    flat[#flat + 1], flat[#flat + 2] = token, new
  end
  in_pieces('HSET', inflight, flat)
  for _, new_job in ipairs(new_jobs) do
    -- An error must not stop the item: the Redis user may lack the permission for HINCRBY.
    pcall(make_job, new_job[1], list, new_job[2], 'queued', ARGV[9], ARGV[10])
  end
  local before = #items
  for index, entry in ipairs(claimed) do
    if bytes >= most_bytes and #items > 0 then
      for last = #claimed, index, -1 do
        redis.call('HDEL', inflight, claimed[last][1])
        redis.call('LPUSH', key, claimed[last][4])
      end
      break
    end
    items[#items + 1] = present(entry[1], entry[2], entry[3], entry[5])
    set_job_status(entry[1], 'processing', 'retry_at_ms', '')
  end
  return #items - before
end

-- The host's field "suspect" names the suspect that runs on this host. The field is stale if its
-- consumer does not hold that item.
local runs = redis.call('HGET', KEYS[1], 'suspect')
if runs then
  local runner, token = string.match(runs, '^(%S+) (%S+)$')
  if read('HEXISTS', 'conserver:inflight:' .. runner, token) ~= 1 then
    runs = nil
  elseif runner == consumer then
    return answer(0, 0) -- it runs its suspect alone
  end
end

-- Adds the links to the answer that are throttled (throttle.lua). Deletes the field when all their
-- times are over.
local function look_at_throttled()
  local text = redis.call('HGET', KEYS[3], 'throttled')
  for until_ms, link in string.gmatch(text or '', '(%d+) ([^\n]+)') do
    local left_ms = tonumber(until_ms) - math.floor(now / 1000)
    if left_ms > 0 then
      throttled[#throttled + 1], throttled[#throttled + 2] = link, left_ms
    end
  end
  if text and #throttled == 0 then
    redis.call('HDEL', KEYS[3], 'throttled')
  end
end

local lists = {}
local control_kind = kind_of(KEYS[3])
if control_kind == 'hash' then
  look_at_throttled()
end
if control_kind ~= 'hash' and control_kind ~= 'none' then
  tell(KEYS[3], control_kind) -- which lists were paused is unknown: all are served
end
for index = 4, #KEYS do
  local list = KEYS[index]
  if not (control_kind == 'hash' and redis.call('HEXISTS', KEYS[3], 'paused:' .. list) == 1) then
    lists[#lists + 1] = { list, tonumber(ARGV[7 + index]) }
  end
end

local function usable(key, wanted)
  local good, kind = is(key, wanted or 'list')
  if not good then
    tell(key, kind)
  end
  return good, kind
end

-- Lists that give no items in this claim.
local shut = {}

-- Returns how many items one of a list's keys holds.
local function count(command, key, list)
  local found = read(command, key)
  if not found then
    tell(key, kind_of(key))
    shut[list] = true
  end
  return found or 0
end

-- Returns whether the keys for dead letters of that list can be used (by move.lua, later).
local function can_dead_letter(list)
  return usable('DLQ:' .. list) and usable('conserver:dead:' .. list, 'zset')
end

-- Returns whether a suspect of that list could later be parked, returned or dead-lettered.
-- Otherwise it would occupy its worker, and block all suspects of its host, until an operator
-- repairs the key.
local function may_run_alone(list)
  count('LLEN', 'conserver:returned:' .. list, list)
  count('ZCARD', 'conserver:parked:' .. list, list)
  return not shut[list] and can_dead_letter(list)
end

local suspects = 0
local alone = ARGV[3] == '1' and not runs and holds == 0
for _, entry in ipairs(lists) do
  local key = 'conserver:suspects:' .. entry[1]
  local waiting = count('LLEN', key, entry[1])
  suspects = suspects + waiting
  if alone and waiting > 0 and may_run_alone(entry[1]) then
    take(key, entry[1], redis.call('LPOP', key, 1))
    redis.call('HSET', KEYS[1], 'suspect', consumer .. ' ' .. parse(items[1][1]).token)
    return answer(0, suspects - 1)
  end
end

-- Claims from one key of a list up to the limits. Returns how many more may be taken from the list.
local CHUNK = 8
local more = 0
local function drain(key, list, left)
  local waiting, chunk = redis.call('LLEN', key), 1
  while waiting > 0 and left > 0 and #items < most and bytes < most_bytes do
    local before = bytes
    local popped = redis.call('LPOP', key, math.min(chunk, left, most - #items))
    left = left - take(key, list, popped)
    waiting = redis.call('LLEN', key)
    -- Small items are popped a few at a time; the next ones may be large.
    chunk = bytes - before <= SMALL * #popped and CHUNK or 1
  end
  more = more + waiting
  return left
end

for _, entry in ipairs(lists) do
  local list, left = entry[1], entry[2]
  local returned = count('LLEN', 'conserver:returned:' .. list, list) > 0
  local good, kind = usable(list)
  local fresh_waits = good and kind == 'list'
  if returned or fresh_waits then
    local parked = count('ZCARD', 'conserver:parked:' .. list, list)
    fresh_waits = fresh_waits and parked < tonumber(ARGV[8])
  end
  if (returned or fresh_waits) and not shut[list] and can_dead_letter(list) then
    if returned then
      left = drain('conserver:returned:' .. list, list, left)
    end
    if fresh_waits then
      drain(list, list, left)
    end
  end
end
return answer(more, suspects)
