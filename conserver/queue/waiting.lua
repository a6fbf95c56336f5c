-- waiting.lua: finds the time since which the oldest item of each list has waited for a worker.
--
-- KEYS  1 conserver:waiting, then for each list: <list>, its returned, its suspects
-- ARGV  1 how old a sample must be before another one is taken, in ms   2.. the names of the lists
-- Answer {now in ms, for each list: since when, in ms; '' if nothing waits; '-' if a key has the
--       wrong type}.
--
-- A pushed element has no time. So the script stores a mark from time to time: the last element of
-- the list, and the present time. As long as a mark's element is in the list, the first element is
-- at least as old as the mark. The oldest such mark is the answer, which is too late by at most the
-- time between two marks. Old marks are thinned out. For records and jobs the answer is exact: they
-- have the time of their first claim or submission.
--
-- A whole document is never a mark, because the mark would be a copy of it. If the last elements
-- are documents, the answer is the time at which the first element was first seen at the head.
-- Equal elements cannot be told apart: for them the answer may be too early.
--
-- The script changes no item. It searches a mark from the head, because the oldest mark is near it.

local MARKS_MAX, MARK_BYTES_MAX = 48, 128
local SEARCH_MAX = 1000000 -- elements per list and sample; Redis compares some 40 in 1 us
-- After a search of more than SEARCHED_FREE elements the list is not searched for a while, so that
-- the average is SEARCHED_PER_MS elements.
local SEARCHED_FREE, SEARCHED_PER_MS = 100000, 20
-- How many elements may have come back to the head of the list since the last sample.
local HEAD_MOVES = 8
-- A last element of more than LARGE bytes is read only once a minute.
local LARGE, LARGE_EVERY_MS = 4096, 60000
local SUMMED = 512 -- bytes of a document that go into its checksum

local now = math.floor(now_us() / 1000)
local answer = { whole(now) }

-- Returns a text by which an element is recognized, and whether it can be a mark. The text is the
-- element itself; for a long one, its length and a checksum.
local function sign(text)
  if #text <= MARK_BYTES_MAX and not string.find(text, '[^%w%-._#:]') then
    return text, true
  end
  local sum = 0
  for place = 1, math.min(#text, SUMMED) do
    sum = (sum * 31 + string.byte(text, place)) % 1000000007
  end
  return '(' .. #text .. ' ' .. whole(sum) .. ')', false
end

local function element(key, place)
  return redis.call('LRANGE', key, place, place)[1]
end

-- Returns the time of the first claim of a record; nil for an element that is no record.
local function first_seen(text)
  local header = text and string.match(text, '^\1[^\n]*\n')
  local found = header and parse(header)
  return found and tonumber(found.seen)
end

-- Returns the earlier first claim of the records at the two ends of a list. This is an estimate,
-- because the list is not in order of age.
local function oldest_record(key)
  local oldest
  for _, place in ipairs({ 0, -1 }) do
    local seen = first_seen(element(key, place))
    oldest = seen and math.min(seen, oldest or seen) or oldest
  end
  return oldest
end

-- Drops the marks that have left the list. `head` may have been moved out of it by a list waiter.
local function drop_gone(state, list, head, length)
  local left = now < (state.rest_until or 0) and 0 or SEARCH_MAX
  while state.marks[1] do
    local mark = state.marks[1]
    local reach = math.min(mark[2] + 1 + HEAD_MOVES, length)
    if mark[3] == head or reach > left then
      return
    end
    local found = reach > 0 and redis.call('LPOS', list, mark[3], 'MAXLEN', reach)
    local searched = SEARCH_MAX - left + (found or reach)
    state.rest_until = searched > SEARCHED_FREE and now + math.floor(searched / SEARCHED_PER_MS)
      or nil
    if found then
      mark[2] = found
      return
    end
    left = left - reach
    state.none = mark[1]
    table.remove(state.marks, 1)
  end
end

-- Removes the mark whose neighbours are closest to each other in proportion to their age.
local function thin_out(marks)
  local least, at
  for index = 2, #marks - 1 do
    local gap = (marks[index + 1][1] - marks[index - 1][1]) / (now - marks[index - 1][1] + 1)
    if not least or gap < least then
      least, at = gap, index
    end
  end
  table.remove(marks, at)
end

local function add_mark(state, list, length)
  local last = state.marks[#state.marks]
  if length == 0 or (state.large and now - state.large < LARGE_EVERY_MS) then
    return
  end
  local tail = element(list, -1)
  state.large = #tail > LARGE and now or nil
  local text, usable = sign(tail)
  if not usable or (last and last[3] == text) then
    return
  end
  if length == 1 or element(list, -2) ~= tail then
    state.marks[#state.marks + 1] = { now, length - 1, text }
    if #state.marks > MARKS_MAX then
      thin_out(state.marks)
    end
  end
end

-- Returns the time since which the first element has waited that no worker has claimed.
local function unclaimed_since(state, head)
  local since = math.min(state.head_at, state.marks[1] and state.marks[1][1] or now)
  local _, job = split_job(head)
  local created = job and read('HGET', 'conserver:job:' .. job, 'created_ms')
  if tonumber(created or nil) then
    since = math.min(since, math.max(tonumber(created), state.none or 0))
  end
  return since
end

local function sample(state, list, returned, length)
  local moved = element(returned, 0)
  local bare = moved and not first_seen(moved) and moved
  local head = bare or element(list, 0)
  state.at, state.since = now, nil
  if not head then
    state.marks, state.head, state.none = {}, nil, now
    return
  end
  local text, usable = sign(head)
  drop_gone(state, list, text, length)
  if state.head ~= text or length < (state.length or 0) - HEAD_MOVES then
    state.head, state.head_at = text, now
  end
  state.length = length
  add_mark(state, list, length)
  state.since = unclaimed_since(state, usable and head or '')
end

local function since_of(index, every)
  local list, returned, suspects = KEYS[3 * index - 1], KEYS[3 * index], KEYS[3 * index + 1]
  if not (is_list(list) and is_list(returned) and is_list(suspects)) then
    return '-'
  end
  local length, came_back = redis.call('LLEN', list), redis.call('LLEN', returned)
  local alone, name = redis.call('LLEN', suspects), ARGV[index + 1]
  local text = redis.call('HGET', KEYS[1], name)
  if length + came_back + alone == 0 then
    if text then
      begin_writing()
      redis.call('HDEL', KEYS[1], name)
    end
    return ''
  end
  local good, state = pcall(cjson.decode, text or '')
  if not good or type(state) ~= 'table' then
    state = {}
  end
  if now - (tonumber(state.at) or 0) >= every then
    if not pcall(sample, state, list, returned, length) then -- Another program wrote that.
      state = { marks = {} }
      sample(state, list, returned, length)
    end
    begin_writing()
    redis.call('HSET', KEYS[1], name, cjson.encode(state))
  end
  local since = state.since
  for _, key in ipairs({ returned, suspects }) do
    local seen = oldest_record(key)
    since = seen and math.min(seen, since or seen) or since
  end
  return whole(since or now)
end

if is(KEYS[1], 'hash') then
  for index = 1, #ARGV - 1 do
    answer[index + 1] = since_of(index, tonumber(ARGV[1]))
  end
  return answer
end
return wrong_type(KEYS[1])
