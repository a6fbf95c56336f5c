-- hint.lua: how far running items of jobs are, for whoever follows them.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  for each item: token, epoch, link that runs, progress (JSON, or ''), attempts
-- Answer: how many were written, of those that say something new.
--
-- A hint and no more: it changes nothing of an item, and of its job nothing but what is shown. Only
-- the holder of an item may write it, and only while the job is processing: an end is never
-- overwritten, and a hash that has expired does not come back.

local written = 0
local texts = {}
for index = 1, #ARGV, 5 do
  texts[#texts + 1] = ARGV[index]
end
texts = #texts > 0 and redis.call('HMGET', KEYS[1], unpack(texts)) or texts
for place, text in ipairs(texts) do
  local at = 5 * place - 4
  local token, epoch, link, progress, attempts = unpack(ARGV, at, at + 4)
  local job = job_of(token)
  if job and text and string.match(text, '^\1%S+ (%d+)') == epoch then
    local known = read('HMGET', 'conserver:job:' .. job, 'status', 'link', 'progress', 'attempts')
    local news = known and known[1] == 'processing'
      and not (known[2] == link and known[3] == progress and known[4] == attempts)
    if news then
      if written == 0 then
        begin_writing()
      end
      change_job(job, known[1], 'link', link, 'progress', progress, 'attempts', attempts)
      written = written + 1
    end
  end
end
return written
