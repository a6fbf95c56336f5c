-- fire.lua: fires a schedule that is due, for the first host that calls.
--
-- KEYS  1 conserver:schedule:<name>   2 the list that it pushes to ('' for another action)
-- ARGV  1 definition (cron and time zone)   2 the schedule's latest due time, in ms since 1970
--       3 now, in ms by Redis's clock   4 catch-up: a due time that is older, in ms, is missed
--       5 host   6 lease in ms (0: the action is a push, which this script does)   7.. payloads
-- Answer {"none"}: nothing is due; {"known"}: the schedule is new, and waits for its next due time;
--       {"pushed", time, time before}; {"run", run, cursor, time, time before}: the caller must do
--       the action now, and call tend.lua; {"paused" | "busy" | "missed", time, time before}: the
--       script skips this due time; {"type", key, TYPE}.
--
-- The script stores the due time before it answers, so that each due time is fired once: hosts that
-- call later find it. If the lease of a run is over, the caller takes over the run with its cursor.
-- The due time is stored per definition, so that a changed schedule does not catch up on times that
-- its old definition did not have.

local key, list = KEYS[1], KEYS[2]
local definition, time, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local catch_up, lease = tonumber(ARGV[4]), tonumber(ARGV[6])
local KEEP_S = 34560000 -- 400 days: longer than a year between two times
local fired_field = 'fired:' .. definition

local known = read('HMGET', key, fired_field, 'paused', 'run', 'lease_ms', 'cursor', 'wanted',
  'run_time')
if not known then
  return { 'type', key, kind_of(key) }
end
local fired, paused, run, lease_ms, cursor, wanted, run_time = unpack(known)

-- Gives the run for a due time to the caller, under a new name, so that tend.lua refuses the host
-- that had the run before.
local function take(at)
  local name = at .. '.' .. whole(redis.call('HINCRBY', key, 'runs', 1))
  redis.call('HSET', key, 'run', name, 'host', ARGV[5], 'lease_ms', whole(now + lease), 'run_time',
    at)
  redis.call('EXPIRE', key, KEEP_S)
  return name
end

-- Deletes the stored due times of earlier definitions.
local function forget_others()
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 6) == 'fired:' and field ~= fired_field then
      local at = tonumber(redis.call('HGET', key, field))
      if not at or at < now - 172800000 then
        redis.call('HDEL', key, field)
      end
    end
  end
end

begin_writing()
if run and tonumber(lease_ms) < now then
  if lease == 0 then -- its action is another one now
    redis.call('HDEL', key, 'run', 'lease_ms', 'cursor', 'host', 'run_time')
    run = false
  else
    return { 'run', take(run_time), cursor or '', run_time, '' }
  end
end
if not fired then
  redis.call('HSET', key, fired_field, whole(now))
  redis.call('EXPIRE', key, KEEP_S)
  fired = whole(now)
  if not wanted then
    return { 'known' }
  end
end
local before = fired
if time > tonumber(fired) then
  redis.call('HSET', key, fired_field, whole(time))
  redis.call('EXPIRE', key, KEEP_S)
  forget_others()
  local passed = (run and 'busy') or (paused and 'paused') or (now - time > catch_up and 'missed')
  if passed and not (wanted and not run) then
    redis.call('HSET', key, 'passed', passed, 'passed_ms', whole(time))
    return { passed, whole(time), before }
  end
elseif run or not wanted then
  return { 'none' }
else
  time = tonumber(wanted)
end
if lease == 0 then
  local good, kind = takes(list, 'list')
  if not good then
    redis.call('HSET', key, 'last_ms', whole(now), 'last_time', whole(time), 'last_result',
      cjson.encode({ error = list .. ' is a ' .. kind .. ' in Redis, and no list' }))
    redis.call('HDEL', key, 'wanted')
    return { 'type', list, kind }
  end
  in_pieces('RPUSH', list, { unpack(ARGV, 7) })
  redis.call('HSET', key, 'last_ms', whole(now), 'last_time', whole(time), 'last_result',
    cjson.encode({ done = #ARGV - 6 }))
  redis.call('HDEL', key, 'wanted')
  return { 'pushed', whole(time), before }
end
redis.call('HDEL', key, 'cursor', 'wanted', 'trouble')
return { 'run', take(whole(time)), '', whole(time), before }
