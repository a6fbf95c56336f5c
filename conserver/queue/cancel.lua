-- cancel.lua: removes one waiting item from wherever it waits, or marks a running one as cancelled.
--
-- KEYS  1 the list, returned or suspects (list), parked (zset), or an in-flight hash
-- ARGV  1 the element: a payload in an ingress list, else a record; a token in a hash
--       2 for a hash: the key with the consumer's cancelled tokens
-- Answer: how many elements were removed, or 1 for a token that is held; WRONGTYPE and the key if
-- the callback of its job could not be told.

local kind = kind_of(KEYS[1])
begin_writing()

-- Removes an element that waits. A record has its job in its token, a payload behind its uuid.
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
