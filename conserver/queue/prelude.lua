-- prelude.lua: functions for the scripts of the queue. script.py puts it in front of each script,
-- and documents.lua in front of those that handle documents.
--
-- Rules for all scripts (keys.py says what each key holds):
--   1. Redis does not roll a script back, and an operator's SET on one of our keys must not lose an
--      item. So before a script moves an item, it checks the TYPE of the key to which the item
--      moves, and of every key that other programs may have made.
--   2. Workers must be able to drain a full Redis. Redis checks maxmemory once per script, at the
--      first write, and a DEL passes that check. So a script that moves or ends items calls
--      begin_writing() first, which deletes a key that never exists. submit.lua does not call it,
--      because a full Redis must refuse submissions.
--   3. A script may run twice, or late. Sequence numbers (of claims and writes) and the fence
--      (token and epoch) make that harmless.
--   4. The work of a call is bounded, by the caller's arguments or by a constant.
--   5. Scripts avoid reading documents, except small ones: Lua hashes every byte of every string,
--      which costs ten times as much as the Redis command itself.
--
-- A record is one line of header, then state, then payload:
--   \1<token> <epoch> <deaths> <flags> <first seen, ms> <write> <revision> <length of state>
--     <list>\n<state><payload>
-- token: <consumer>.<time, us>.<n>, followed by "#<job>" if the item belongs to a job. So every
--   script knows the job of an item without reading its record.
-- flags: "s" (suspect) and "b" (a worker has begun to run it in this epoch), or "-" for neither.
--   After a worker's death for which the item was blamed: ":" and the note on it, percent-encoded
--   JSON.
-- write: number of the latest write in this claim. If write.lua gets this number again, it answers
--   with `revision`.
-- revision: of the document that `state` describes. A move to another list keeps it.
-- state: JSON that Lua never reads.

-- 2200-01-01 in ms. Conserver gives its documents this expiry; a producer's SET removes the expiry,
-- and so shows that the producer has replaced the document.
local FAR, FAR_TEXT = 7258118400000, '7258118400000'
local HEADER = '^\1(%S+) (%d+) (%d+) (%S+) (%d+) (%d+) (%-?%d+) (%d+) ([^\n]*)\n()'

-- The tombstone of a consumer whose registration was deleted. While this key exists, register.lua
-- does not register the consumer again. GONE_S is longer than a late call can be on its way.
local GONE_S = 3600
local function tombstone(consumer)
  return 'conserver:gone:' .. consumer
end

local function begin_writing()
  redis.call('DEL', 'conserver:nothing')
end

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function whole(number)
  return string.format('%.0f', number)
end

local function kind_of(key)
  return redis.call('TYPE', key).ok
end

-- Returns whether a key has the wanted type or does not exist, and its type; "forbidden" if the
-- Redis user may not call TYPE.
local function is(key, wanted)
  local kind = redis.pcall('TYPE', key).ok or 'forbidden'
  return kind == wanted or kind == 'none', kind
end

local function is_list(key)
  return is(key, 'list')
end

-- Returns whether a value can be added to a key, and if not, why: the key's TYPE, or "forbidden" if
-- the Redis user may not write it. (Redis before 7 cannot check the permission.)
local PUTS = { list = { 'RPUSH', '' }, zset = { 'ZADD', '0', '' } }
local function takes(key, wanted)
  local good, kind = is(key, wanted)
  if good and redis.acl_check_cmd then
    local put = PUTS[wanted]
    if not redis.acl_check_cmd(put[1], key, unpack(put, 2)) then
      return false, 'forbidden'
    end
  end
  return good, kind
end

-- Runs a reading command on one of our keys. Returns nil if the key has another type; raises other
-- errors.
local function read(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'WRONGTYPE', 1, true) then
      return nil
    end
    return redis.call(command, key, ...)
  end
  return answer
end

-- The error of a script that cannot go on because one of our keys has another type. It names the
-- key, which Redis's own WRONGTYPE error does not.
local function wrong_type(key)
  return redis.error_reply('WRONGTYPE ' .. key)
end

-- Parses a record. Returns a table, or nil if the text is a bare payload.
local function parse(text)
  local token, epoch, deaths, flags, seen, write, revision, size, list, body =
    string.match(text, HEADER)
  if not token then
    return nil
  end
  return {
    token = token, epoch = epoch, deaths = tonumber(deaths), seen = seen, list = list,
    suspect = string.byte(flags, 1) == 115, -- "s"
    begun = string.byte(flags, 2) == 98, -- "b"
    note = string.match(flags, ':.*') or '',
    write = tonumber(write), revision = revision,
    state = string.sub(text, body, body + size - 1),
    payload = string.sub(text, body + size),
  }
end

local function build(record)
  local flags = (record.suspect and 's' or '') .. (record.begun and 'b' or '')
  flags = (flags == '' and '-' or flags) .. record.note
  return '\1' .. record.token .. ' ' .. record.epoch .. ' ' .. record.deaths .. ' ' .. flags
    .. ' ' .. record.seen .. ' ' .. whole(record.write) .. ' ' .. record.revision .. ' '
    .. #record.state .. ' ' .. record.list .. '\n' .. record.state .. record.payload
end

-- The fence. Returns the record that the consumer holds under this token in this epoch, or nil if
-- the item was taken from it.
local function held(inflight, token, epoch)
  local text = redis.call('HGET', inflight, token)
  local record = text and parse(text)
  if not record then
    return nil
  end
  if record.epoch ~= epoch then
    return nil
  end
  return record
end

-- Reads, in one command, the records that the consumer holds under the tokens in ARGV[first..last].
-- Returns their texts, and false for items that were taken from it.
local function texts_held(inflight, first, last)
  if last < first then
    return {}
  end
  return redis.call('HMGET', inflight, unpack(ARGV, first, last))
end

-- As texts_held, but returns only the epochs of the records, which are enough for the fence.
local function epochs_held(inflight, first, last)
  local epochs = texts_held(inflight, first, last)
  for place, text in ipairs(epochs) do
    epochs[place] = text and string.match(text, '^\1%S+ (%d+)') or false
  end
  return epochs
end

-- Runs a command with many arguments, in pieces that fit on Lua's stack.
local function in_pieces(command, key, arguments)
  for first = 1, #arguments, 1000 do
    redis.call(command, key, unpack(arguments, first, math.min(first + 999, #arguments)))
  end
end

-- Removes an item from its consumer, and resets the parts of its record that belong to the epoch.
local function let_go(inflight, record)
  redis.call('HDEL', inflight, record.token)
  record.begun = false
  record.write = 0
end

-- Jobs. A job is one submission that somebody follows: the hash conserver:job:<job> (jobs.py). Its
-- status changes in the script that moves its item, behind the same fence, so a job ends exactly
-- once, with its item. A job never stops an item: if its key has expired or has another type, the
-- scripts move the item and leave the key alone.
local JOB = '^(.+)#([%w._-]+)$'
local JOB_ID_MAX = 64
local JOBS, JOBS_MAX = 'conserver:jobs', 100000
local ENDS = { completed = true, filtered = true, cancelled = true, failed = true }

-- A pushed payload is <uuid> or <uuid>#<job>: its uuid, and the job or nil.
local function split_job(payload)
  if string.byte(payload, 1) == 123 then -- "{": a document
    return payload, nil
  end
  local uuid, job = string.match(payload, JOB)
  if not job or #job > JOB_ID_MAX then
    return payload, nil
  end
  return uuid, job
end

local function job_of(token)
  local at = string.find(token, '#', 1, true)
  return at and string.sub(token, at + 1)
end

-- Sets fields of a job, raises the job's sequence number, and publishes "<number> <status>".
-- Returns the number.
local function change_job(job, status, ...)
  local key = 'conserver:job:' .. job
  redis.call('HSET', key, 'status', status, 'updated_ms', whole(math.floor(now_us() / 1000)), ...)
  local number = redis.call('HINCRBY', key, 'seq', 1)
  redis.pcall('PUBLISH', 'conserver:events:' .. job, whole(number) .. ' ' .. status)
  return number
end

-- Callbacks. The submitter of a job may ask for a callback at the job's end. The script that ends
-- the item then also pushes a notification: a second item, on conserver:notifications. Its payload
-- says how the job ended, in the form of a document that was pushed whole. A notification belongs
-- to no job, so its own end causes no notification. The callback's address is a secret and stays in
-- the hash of the job.
local NOTIFICATIONS = 'conserver:notifications'

-- The key of the unfinished jobs of an API token that may have only so many (submit.lua): the
-- latest time at which a job's hash expires, in ms -> job.
local function open_jobs(token)
  return 'conserver:open:' .. token
end

-- The fields of jobs that scripts need, read once per call: job -> { status, keep_s, callback_on,
-- callback_until_ms, max_s, counted }, or false if the key has another type. counted: the API token
-- in whose open_jobs() the job is.
local jobs_read = {}
local function job_read(job)
  if jobs_read[job] == nil then
    jobs_read[job] = read('HMGET', 'conserver:job:' .. job, 'status', 'keep_s', 'callback_on',
      'callback_until_ms', 'max_s', 'counted') or false
  end
  return jobs_read[job]
end

-- Returns whether a job must notify a callback when it ends with `status`. known: its job_read.
local function notifies(known, status)
  return known and known[1] and not ENDS[known[1]] and known[3]
    and string.find(' ' .. known[3] .. ' ', ' ' .. status .. ' ', 1, true) ~= nil
end

-- Pushes the notification of a job that has just ended. number: the job's sequence number then.
local function push_notification(job, number, status, why)
  local kept = redis.call('HMGET', 'conserver:job:' .. job, 'list', 'uuid', 'created_ms')
  local now_ms = whole(math.floor(now_us() / 1000))
  local text = cjson.encode
  redis.call('RPUSH', NOTIFICATIONS, '{"vcon":"0.4.0","uuid":' .. text(kept[2] or '')
    .. ',"notification":{"job":' .. text(job) .. ',"seq":' .. whole(number) .. ',"status":'
    .. text(status) .. ',"list":' .. text(kept[1] or '') .. ',"created_ms":'
    .. whole(tonumber(kept[3] or nil) or 0) .. ',"ended_ms":' .. now_ms .. ',"error":'
    .. text(why) .. '}}')
  redis.call('HSET', 'conserver:job:' .. job, 'notification', 'queued',
    'notification_seq', whole(number))
end

-- Sets the status of the item's job, unless the job has ended. At its end the job's hash expires
-- after keep_s, or after max_s if a callback must be notified (told.lua shortens that later).
-- Raises no error: the item has moved by now, and a Redis user who may not write jobs must not
-- leave a script half done.
local function set_job_status(token, status, ...)
  local job = job_of(token)
  if not job then
    return
  end
  local known = job_read(job)
  if not known or not known[1] or ENDS[known[1]] then
    return
  end
  local told = notifies(known, status)
  local good, number = pcall(change_job, job, status, ...)
  known[1] = status
  if told then
    local why = status == 'failed' and select(2, ...) or ''
    pcall(push_notification, job, good and number or now_us(), status, why)
  end
  if ENDS[status] then
    local keep_s = told and tonumber(known[5]) or tonumber(known[2]) or 3600
    redis.pcall('EXPIRE', 'conserver:job:' .. job, keep_s)
    if known[6] then
      redis.pcall('ZREM', open_jobs(known[6]), job)
    end
  end
end

-- Makes the hash of a job, unless the key exists. Returns whether it made the hash.
local function make_job(job, list, uuid, status, keep_s, max_s, ...)
  local key = 'conserver:job:' .. job
  if redis.call('EXISTS', key) == 1 then
    return false
  end
  local now_ms = whole(math.floor(now_us() / 1000))
  redis.call('HSET', key, 'list', list, 'uuid', uuid, 'created_ms', now_ms, 'keep_s', keep_s,
    'max_s', max_s, ...)
  redis.call('EXPIRE', key, max_s)
  redis.pcall('ZADD', JOBS, now_ms, job)
  redis.pcall('ZREMRANGEBYRANK', JOBS, 0, -1 - JOBS_MAX)
  change_job(job, status)
  jobs_read[job] = nil
  return true
end

local function way_back(record)
  return (record.suspect and 'conserver:suspects:' or 'conserver:returned:') .. record.list
end

-- Returns the reason why a key cannot take records (see takes), or false. Each key is checked once
-- per call.
local asked = {}
local function barrier(place, wanted)
  if asked[place] == nil then
    local good, kind = takes(place, wanted)
    asked[place] = not good and kind
  end
  return asked[place]
end

-- Returns why conserver:notifications cannot take the notification of this end (see takes); false
-- if it can, or if there is none. To be called before the item is moved.
local function cannot_notify(token, status)
  local job = job_of(token)
  return job and notifies(job_read(job), status) and barrier(NOTIFICATIONS, 'list')
end

local function send_back(record)
  redis.call('RPUSH', way_back(record), build(record))
  set_job_status(record.token, 'queued', 'link', '')
end

-- Makes an item a dead letter: its payload goes to DLQ:<list>, which any tool can read; its reason
-- and record go to conserver:dead:<list>, which our commands read. In place of a large payload the
-- record has \2 and the payload's SHA-1.
local LARGE = 65536
local function dead_letter(record, why, at_ms)
  redis.call('RPUSH', 'DLQ:' .. record.list, record.payload)
  local payload = record.payload
  if #payload > LARGE then
    record.payload = '\2' .. redis.sha1hex(payload)
  end
  redis.call('ZADD', 'conserver:dead:' .. record.list, whole(at_ms), why .. '\n' .. build(record))
  record.payload = payload
  set_job_status(record.token, 'failed', 'error', why)
end
