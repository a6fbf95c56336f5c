-- beat.lua: writes a host's heartbeat and the status that `conserver status` shows.
--
-- KEYS  1 the host's hash   2 conserver:hosts   ARGV  1 host   2 beat   3.. field, value
-- Answer: the previous beat; 1 if the host was not in conserver:hosts, else 0; then the consumers
--         registered on this host, each with its claim number or "void".
--
-- The host's field "beat_at_ms" has the time of the beat by Redis's clock, because the clocks of
-- hosts may differ. Each beat adds the host to conserver:hosts, so that a living host that was
-- declared dead by mistake comes back.

begin_writing()
local added = redis.call('SADD', KEYS[2], ARGV[1])
local before = redis.call('HGET', KEYS[1], 'beat') or ''
local now_ms = whole(math.floor(now_us() / 1000))
redis.call('HSET', KEYS[1], 'beat', ARGV[2], 'beat_at_ms', now_ms, unpack(ARGV, 3))
local all, registrations = redis.call('HGETALL', KEYS[1]), { before, whole(added) }
for index = 1, #all, 2 do
  local consumer = string.match(all[index], '^consumer:(.*)$')
  if consumer then
    registrations[#registrations + 1] = consumer
    registrations[#registrations + 1] = all[index + 1]
  end
end
return registrations
