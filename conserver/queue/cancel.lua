-- cancel.lua: removes one waiting item from one key, or marks a running item as cancelled.
--
-- KEYS  1 the key: ingress list, returned or suspects (list), parked (zset), or an in-flight hash
-- ARGV  1 the item: a payload of the ingress list; a record of returned, suspects or parked; a
--       token of the hash
--       2 for a hash: conserver:cancelled:<consumer>
-- Answer: how many elements were removed, or 1 for a token that is in the hash, else 0; WRONGTYPE
--       and the key if the notification for its job's callback cannot be queued.

local kind = kind_of(KEYS[1])
begin_writing()

-- Removes a waiting element. A record has its job in its token, a payload has it after its uuid.
local function remove(command, ...)
  local _, job = split_job(ARGV[1])
  local token = string.match(ARGV[1], '^\1(%S+) ') or (job and '#' .. job) or ''
  if cannot_notify(token, 'cancelled') then
    return wrong_type(NOTIFICATIONS)
  end
  local removed = redis.call(command, KEYS[1], ...)
  if removed > 0 then
    set_job_status(token, 'cancelled')
  end
  return removed
end

if kind == 'list' then
  return remove('LREM', 1, ARGV[1])
elseif kind == 'zset' then
  return remove('ZREM', ARGV[1])
elseif kind == 'hash' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('SADD', ARGV[2], ARGV[1])
  redis.call('EXPIRE', ARGV[2], 86400)
  return 1
end
return 0
