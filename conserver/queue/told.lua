-- told.lua: records in a job whether its notification was delivered. It changes only fields that
-- are shown, and the expiry of the job's hash.
--
-- KEYS  1 conserver:job:<job>
-- ARGV  1 sequence number of the job's change that the notification reports
--       2 "delivered" or "failed"   3 why the delivery failed (JSON, or '')
-- Answer: 1, or 0 if the job has expired, was replayed, or has had another end since.

local known = read('HMGET', KEYS[1], 'status', 'notification_seq', 'keep_s')
if not known or not ENDS[known[1]] or known[2] ~= ARGV[1] then
  return 0
end
begin_writing()
redis.call('HSET', KEYS[1], 'notification', ARGV[2], 'notification_error', ARGV[3])
if ARGV[2] == 'delivered' then
  redis.call('EXPIRE', KEYS[1], tonumber(known[3]) or 3600)
end
return 1
