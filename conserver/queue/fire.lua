-- fire.lua: begins what a schedule does, for the one host that comes first.
--
-- KEYS  1 conserver:schedule:<name>   2 the list that it pushes to ('' for another action)
-- ARGV  1 definition (cron and time zone)   2 the latest time that it had, in ms since 1970
--       3 now, in ms by Redis's clock   4 how old a time may be that was missed, in ms   5 host
--       6 lease in ms (0: the action is a push, done here)   7.. payloads
-- Answer {"none"}: there is nothing to do; {"known"}: it is new, and waits for its next time;
--       {"pushed", time, time before}; {"run", run, cursor, time, time before}: the caller does it
--       now, and tends it; {"paused" | "busy" | "missed", time, time before}: this time is passed
--       over; {"type", key, TYPE}.
--
-- A time counts as fired as soon as this script has answered, and each is fired once: hosts that
-- come later find it. A run whose lease is over is taken over with its cursor. The time is in the
-- field of its definition, so a changed schedule makes up for nothing that it never had.

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

-- Gives the run for a time to the caller. Its name is new, so that a host which had it is refused.
local function take(at)
  local name = at .. '.' .. whole(redis.call('HINCRBY', key, 'runs', 1))
  redis.call('HSET', key, 'run', name, 'host', ARGV[5], 'lease_ms', whole(now + lease), 'run_time',
    at)
  redis.call('EXPIRE', key, KEEP_S)
  return name
end

-- What a changed definition had fired is of no use any more.
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
