-- hint.lua: writes the progress of running items to their jobs, for clients that follow the jobs.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  for each item: token, epoch, link that runs, progress (JSON, or ''), attempts
-- Answer: how many jobs were changed; a job with the same values already is not written.
--
-- The script changes no item, and only fields of the job that are shown. Only the holder of an item
-- may write them, and only while the job's status is processing: so the script never overwrites an
-- end, and never makes an expired hash again.

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
