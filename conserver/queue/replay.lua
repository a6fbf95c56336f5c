-- replay.lua: returns one dead letter to the queue, with its progress, but not as a suspect. If its
-- job still exists with status failed, the job becomes queued: no other script changes a job that
-- has ended.
--
-- KEYS  1 DLQ:<list>   2 conserver:dead:<list>   3 conserver:returned:<list>   4 the list
-- ARGV  1 the member of conserver:dead ("" for a payload without one)   2 its payload   3 its
--       state, with attempts reset
-- Answer "returned"; "queued" (a payload without a record went to its list); "swept" (the payload
--       had gone, because another tool replayed it; this script removed the reason); "gone" (there
--       is no such dead letter); or WRONGTYPE and the key if the item cannot be returned.
--
-- The script removes the record first, then the payload. So a second execution finds no record, and
-- does not take the payload of another dead letter that has the same bytes.

if not is_list(KEYS[1]) then
  return 'gone'
end
if not is_list(KEYS[3]) then
  return wrong_type(KEYS[3])
end
begin_writing()
if ARGV[1] == '' then
  if not is_list(KEYS[4]) or redis.call('LREM', KEYS[1], 1, ARGV[2]) == 0 then
    return 'gone'
  end
  redis.call('RPUSH', KEYS[4], ARGV[2])
  return 'queued'
end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 'gone'
end
if redis.call('LREM', KEYS[1], 1, ARGV[2]) == 0 then
  return 'swept'
end
local record = parse(string.sub(ARGV[1], string.find(ARGV[1], '\n', 1, true) + 1))
record.payload, record.deaths, record.suspect = ARGV[2], 0, false
record.state = ARGV[3]
record.note = ''
local job = job_of(record.token)
local known = job and read('HMGET', 'conserver:job:' .. job, 'status', 'max_s')
if known and known[1] == 'failed' then
  change_job(job, 'queued', 'error', '', 'link', '', 'retry_at_ms', '')
  redis.call('EXPIRE', 'conserver:job:' .. job, tonumber(known[2]) or 604800)
end
record.seen = whole(math.floor(now_us() / 1000)) -- give_up_s counts from now on
redis.call('RPUSH', KEYS[3], build(record))
return 'returned'
