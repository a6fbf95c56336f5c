-- submit.lua: stores a document, makes its job and pushes its uuid, in one step.
--
-- KEYS  1 the list   2 vcon:<uuid>   3 conserver:parked:<list>   4 a key that holds the document,
--       which the script renames to vcon:<uuid> ('' for none). Large documents come this way,
--       because they must not pass through Lua
-- ARGV  1 uuid   2 job ('' for a submission without a job)   3 document ('' for none, or if the
--       fourth key has it)   4 most items that may wait on the list (0: no limit)   5 due time in
--       ms since 1970 (0: now); an item that is due later is parked until then   6 seconds that the
--       job is kept after its end   7 seconds that the job is kept at most, from its due time on
--       8 the API token whose unfinished jobs are limited ('': none)   9 how many unfinished jobs
--       that token may have   10.. fields of the job and their values
-- Answer {"queued"}, or {"waiting"} (parked); {"exists", uuid, list, status} if the job exists
--       already: nothing was done, so a repeated call submits once; {"full", length of the list};
--       {"busy", how many unfinished jobs the token has}; {"type", key, TYPE} if that key has the
--       wrong type; {"gone", fourth key} if the fourth key has expired.
--
-- The script does not call begin_writing(), so that a full Redis refuses its first write. The
-- submitter is then asked to come again.

local list, document, source = KEYS[1], KEYS[2], KEYS[4]
local uuid, job, body = ARGV[1], ARGV[2], ARGV[3]
local most, due_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local later = due_ms > now_us() / 1000
local place, kind = list, 'list'
if later then
  place, kind = KEYS[3], 'zset'
end

if job ~= '' then
  local known = read('HMGET', 'conserver:job:' .. job, 'uuid', 'list', 'status')
  if not known then
    return { 'type', 'conserver:job:' .. job, kind_of('conserver:job:' .. job) }
  elseif known[3] then
    return { 'exists', known[1] or '', known[2] or '', known[3] }
  end
end
local good, found = takes(place, kind)
if not good then
  return { 'type', place, found }
end
if most > 0 and not later then
  local waiting = redis.call('LLEN', list)
  if waiting >= most then
    return { 'full', whole(waiting) }
  end
end
if source ~= '' and redis.call('EXISTS', source) == 0 then
  return { 'gone', source }
end

-- The limit of unfinished jobs. The script that ends a job removes it from open_jobs()
-- (prelude.lua). A job whose hash another program deleted stays there until its time is over. So at
-- the limit this script removes those of the first LOOK jobs that have ended or have no hash.
local LOOK = 16
local token, most_jobs, now_ms = ARGV[8], tonumber(ARGV[9]), math.floor(now_us() / 1000)
local kept_s = tonumber(ARGV[7]) + (later and math.ceil((due_ms - now_ms) / 1000) or 0)
local limited = job ~= '' and token ~= '' and most_jobs > 0
local open_key, ended = open_jobs(token), {}
if limited then
  local many = read('ZCOUNT', open_key, whole(now_ms), '+inf')
  if not many then
    return { 'type', open_key, kind_of(open_key) }
  end
  if many >= most_jobs then
    local first = redis.call('ZRANGEBYSCORE', open_key, whole(now_ms), '+inf', 'LIMIT', 0, LOOK)
    for _, one in ipairs(first) do
      local status = read('HGET', 'conserver:job:' .. one, 'status')
      if not status or ENDS[status] then
        ended[#ended + 1] = one
      end
    end
  end
  if many - #ended >= most_jobs then
    return { 'busy', whole(many - #ended) }
  end
end

if job ~= '' then
  make_job(job, list, uuid, later and 'waiting' or 'queued', ARGV[6], ARGV[7], 'retry_at_ms',
    later and whole(due_ms) or '', unpack(ARGV, 10))
  redis.call('EXPIRE', 'conserver:job:' .. job, whole(kept_s))
end
if limited then
  redis.call('HSET', 'conserver:job:' .. job, 'counted', token)
  redis.call('ZADD', open_key, whole(now_ms + 1000 * kept_s), job)
  redis.call('ZREMRANGEBYSCORE', open_key, '-inf', '(' .. whole(now_ms))
  in_pieces('ZREM', open_key, ended)
  local left_s = math.ceil(redis.call('PTTL', open_key) / 1000)
  redis.call('EXPIRE', open_key, whole(math.max(kept_s, left_s)))
end
if source ~= '' then
  redis.call('RENAME', source, document)
  redis.call('PERSIST', document)
elseif body ~= '' then
  redis.call('SET', document, body)
end
if not later then
  redis.call('RPUSH', list, job ~= '' and uuid .. '#' .. job or uuid)
  return { 'queued' }
end
local behind = job ~= '' and '#' .. job or ''
redis.call('ZADD', KEYS[3], whole(due_ms), build({
  token = 'submitted.' .. whole(now_us()) .. '.0' .. behind, epoch = '0', deaths = 0, note = '',
  seen = whole(due_ms), -- give_up_s counts from the due time
  write = 0, revision = '0', list = list, state = '',
  payload = uuid,
}))
return { 'waiting' }
