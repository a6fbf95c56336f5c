-- tend.lua: stores the progress of a schedule's run, and prolongs its lease or ends the run.
--
-- KEYS  1 conserver:schedule:<name>   2 the list that the run pushes to ('' for none)
-- ARGV  1 run   2 now, in ms by Redis's clock   3 lease in ms; 0 leaves the run to another host
--       4 cursor: where to continue after these payloads   5 the result, as JSON ('' if the run
--       goes on)   6.. payloads to push
-- Answer {"kept"} (the run goes on); {"ended"}; {"lost"}: another host has taken over the run, and
--       nothing was done; {"type", key, TYPE}.
--
-- One step pushes the payloads and stores the cursor, so that the next host pushes none of them
-- again.

local key, list = KEYS[1], KEYS[2]
local run, now, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local cursor, result = ARGV[4], ARGV[5]

local known = read('HMGET', key, 'run', 'run_time')
if not known then
  return { 'type', key, kind_of(key) }
elseif known[1] ~= run then
  return { 'lost' }
end
if #ARGV > 5 then
  local good, kind = takes(list, 'list')
  if not good then
    return { 'type', list, kind }
  end
end
begin_writing()
redis.call('HSET', key, 'cursor', cursor, 'lease_ms', whole(now + lease))
if #ARGV > 5 then
  in_pieces('RPUSH', list, { unpack(ARGV, 6) })
end
if result == '' then
  return { 'kept' }
end
redis.call('HSET', key, 'last_ms', whole(now), 'last_time', known[2] or '', 'last_result', result)
redis.call('HDEL', key, 'run', 'lease_ms', 'cursor', 'host', 'run_time', 'trouble')
return { 'ended' }
