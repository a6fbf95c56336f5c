-- settle.lua: ends items. It removes each item from its consumer, pushes its uuid to the egress
-- lists and to the lists that links asked for, and sets the expiry of its document.
--
-- KEYS  1 conserver:inflight:<consumer>
-- ARGV  1 number of items   2.. their tokens, then for each of them: epoch, uuid, base revision,
--       chain, body ('' leaves the document), expiry in s (0 keeps FAR), the final status of its
--       job (completed, filtered or cancelled), n, n pairs of list and uuid to push, m, m pairs of
--       storage and ETag
-- Answer, for each item: {"settled"}, {"lost"}, {"type", key, TYPE} (nothing was done), or
--       {"refused", ...} or {"conflict", ...} as in write.lua.
--
-- Because of the fence each uuid is pushed exactly once: a second execution finds no item. The
-- script writes the documents first, then removes all items from the hash with one command, then
-- pushes all uuids. Redis refuses no command after the first write.

local inflight = KEYS[1]
local now = now_us()
local answers, ending, leaving, pushed, order = {}, {}, {}, {}, {}
local gone = {}
local SETTLED, LOST = { 'settled' }, { 'lost' }

-- Returns the reason why an item cannot end (a list that cannot be pushed to, a notification that
-- cannot be queued, a document that cannot be written), or nil and the revision of its document.
local function obstacle(token, status, uuid, base, chain, body, first, last)
  local kept = cannot_notify(token, status)
  if kept then
    return { 'type', NOTIFICATIONS, kept }
  end
  for index = first, last, 2 do
    local kind = barrier(ARGV[index], 'list')
    if kind then
      return { 'type', ARGV[index], kind }
    end
  end
  if body == '' then
    return nil, base
  end
  return swap(uuid, tonumber(base), body, chain, now)
end

begin_writing()
local at = 2 + tonumber(ARGV[1])
local epochs = epochs_held(inflight, 2, at - 1)
for place = 1, #epochs do
  local token = ARGV[1 + place]
  local epoch, uuid, base, chain, body, seconds, status = unpack(ARGV, at, at + 6)
  local pushes = at + 8
  local tags = pushes + 2 * ARGV[at + 7] + 1
  local after = tags + 2 * ARGV[tags - 1]
  local answer, revision = LOST, base
  if not gone[token] and epochs[place] == epoch then
    answer, revision = obstacle(token, status, uuid, base, chain, body, pushes, tags - 2)
  end
  if not answer then
    leaving[#leaving + 1], gone[token] = token, true
    ending[#ending + 1] =
      { uuid, tonumber(revision), tonumber(seconds), tags, after - 1, token, status }
    for index = pushes, tags - 2, 2 do
      local list = ARGV[index]
      if not pushed[list] then
        pushed[list] = {}
        order[#order + 1] = list
      end
      table.insert(pushed[list], ARGV[index + 1])
    end
    answer = SETTLED
  end
  answers[#answers + 1] = answer
  at = after
end

in_pieces('HDEL', inflight, leaving)
for _, list in ipairs(order) do
  in_pieces('RPUSH', list, pushed[list])
end
for _, entry in ipairs(ending) do
  local uuid, revision, seconds, first, last, token, status = unpack(entry)
  set_job_status(token, status, 'link', '', 'progress', '')
  for index = first, last, 2 do
    -- The items have left the in-flight hash: an error here must not stop the loop.
    redis.pcall('HSET', 'conserver:revision:' .. uuid, 'e:' .. ARGV[index], ARGV[index + 1])
  end
  if seconds > 0 then
    expire(uuid, revision, seconds, now)
  end
end
return answers
