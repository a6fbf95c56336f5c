-- tend.lua: tells how far the run of a schedule is, prolongs its lease, and ends it.
--
-- KEYS  1 conserver:schedule:<name>   2 the list that it pushes to ('' for none)
-- ARGV  1 run   2 now, in ms by Redis's clock   3 lease in ms; 0 gives the run up, for another host
--       4 cursor: where to go on after these payloads   5 how it ended, as JSON ('' if it goes on)
--       6.. payloads to push
-- Answer {"kept"}, {"ended"}, {"lost"}: another host has taken the run over, and nothing was done;
--       {"type", key, TYPE}.
--
-- Payloads and cursor change together, so a run that is taken over pushes none twice.

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
