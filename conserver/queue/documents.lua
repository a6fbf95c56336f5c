-- documents.lua: the document of an item, for the scripts that read or write vcon:<uuid> (put
-- behind prelude.lua).
--
-- conserver:revision:<uuid> is a hash: r revision, n length as we wrote or saw it, h SHA-1 instead
-- of a length where the value is RedisJSON, c the chain that wrote it, c:<chain> the revision that
-- each chain wrote last, p the one by which somebody replaced it last, x the expiry in ms that we
-- gave it (absent: FAR, for both keys), e:<storage> its ETags. A document is ours while its length
-- (or SHA-1) and its expiry are what we left: a producer's SET clears the expiry.
--
-- These few lines are most of what an item costs Redis: what is known is not asked for again. The
-- text of a document is never read here, unless it is RedisJSON.

-- What is at the key: kind, length; text and sha for RedisJSON; bad for what is no document.
local function look(uuid)
  local doc = { key = 'vcon:' .. uuid, revkey = 'conserver:revision:' .. uuid, kind = 'string' }
  local length = redis.pcall('STRLEN', doc.key)
  if type(length) == 'number' and length > 0 then
    doc.length = length
    return doc
  end
  doc.kind = kind_of(doc.key)
  if doc.kind == 'string' then
    doc.length = 0
  elseif doc.kind == 'ReJSON-RL' then
    doc.text = redis.call('JSON.GET', doc.key)
    doc.length = #doc.text
    doc.sha = redis.sha1hex(doc.text)
  elseif doc.kind ~= 'none' then
    doc.bad = true
  end
  return doc
end

-- The same, and what is known of it: a hash of ours, unless somebody has put something else there.
-- Then that key is what is bad, whatever the other one is: nobody may write to it.
local function describe(uuid)
  local doc = look(uuid)
  doc.known = read('HMGET', doc.revkey, 'r', 'n', 'h', 'x', 'c', 'p')
  if not doc.known then
    doc.kind, doc.bad, doc.key = kind_of(doc.revkey), true, doc.revkey
  end
  return doc
end

-- Whether a key is to expire when it was left to, give or take what the calls themselves take.
local function lives_until(key, expected_ms, now_ms)
  local left_ms = redis.call('PTTL', key)
  if left_ms > 0 and math.abs(now_ms + left_ms - expected_ms) > 2000 then
    -- A server that stood still since the script began (a paused machine) has an old now.
    now_ms, left_ms = now_us() / 1000, redis.call('PTTL', key)
  end
  return left_ms > 0 and math.abs(now_ms + left_ms - expected_ms) <= 2000
end

-- Whether the document is still what we left there, and its revision (a number; 0 for none).
local function recognise(doc, now_ms)
  local known = doc.known
  local seen = { r = known[1], n = known[2], h = known[3], x = known[4], c = known[5] }
  doc.replaced = tonumber(known[6] or 0)
  doc.seen = seen
  doc.revision = tonumber(seen.r or 0)
  doc.chain = seen.c or ''
  if doc.revision == 0 or doc.kind == 'none' then
    doc.ours = false
  elseif doc.sha then
    doc.ours = doc.sha == seen.h
  else
    doc.ours = doc.length == tonumber(seen.n or -1)
      and lives_until(doc.key, tonumber(seen.x or FAR), now_ms)
  end
end

-- Gives the document its next revision, and keeps what is known of it as it is now. replaces: it
-- has nothing of what was there before.
local function remember(doc, chain, now, replaces)
  doc.revision = math.max(doc.revision + 1, now)
  doc.revision_text, doc.chain = whole(doc.revision), chain
  local fields = { 'r', doc.revision_text, 'n', whole(doc.length), 'c', chain }
  if chain ~= '' then
    fields[7], fields[8] = 'c:' .. chain, doc.revision_text
  end
  if replaces then
    doc.replaced = doc.revision
    fields[#fields + 1], fields[#fields + 2] = 'p', doc.revision_text
  end
  redis.call('HSET', doc.revkey, unpack(fields))
  if doc.sha then
    redis.call('HSET', doc.revkey, 'h', doc.sha)
  elseif doc.seen.h then
    redis.call('HDEL', doc.revkey, 'h')
  end
end

-- Both keys live as long as one another; FAR is also the mark that shows a replacement.
local function keep(doc)
  if doc.seen.x then
    redis.call('HDEL', doc.revkey, 'x')
  end
  if doc.seen.x or not doc.seen.r then
    redis.call('PEXPIREAT', doc.revkey, FAR_TEXT)
  end
end

-- Makes the document ours: a new revision if somebody replaced it, and the mark. known: the caller
-- has seen one there before, even if nothing is known of it any more.
local function adopt(doc, now, known)
  recognise(doc, math.floor(now / 1000))
  if doc.ours and not doc.seen.x then
    return
  end
  if not doc.ours then
    remember(doc, '', now, known or doc.seen.r)
  end
  redis.call('PEXPIREAT', doc.key, FAR_TEXT)
  keep(doc)
end

-- Puts `body` there as the next revision. A RedisJSON value stays one; what its module has against
-- the document is the answer, and then nothing was done.
local function put(doc, body, chain, now, replaces)
  doc.length, doc.sha = #body, nil
  if doc.kind == 'ReJSON-RL' then
    local set = redis.pcall('JSON.SET', doc.key, '$', body)
    if set.err then
      return set.err
    end
    redis.call('PEXPIREAT', doc.key, FAR_TEXT)
    doc.sha = redis.sha1hex(redis.call('JSON.GET', doc.key))
  else
    redis.call('SET', doc.key, body, 'PXAT', FAR_TEXT)
  end
  remember(doc, chain, now, replaces)
  keep(doc)
end

-- Compare-and-set. base is the revision that the caller read; 0 replaces whatever is there (a
-- pushed document), ABSENT nothing (it was not there, and came back from a storage). Answers nil
-- and the new revision, or a refusal: {'type', key, kind}, {'refused', reason} or {'conflict',
-- revision, chain, text of RedisJSON or '' (read it with GET), '1' if the document was replaced
-- since base}. A document that was deleted under
-- us is written again: its revision is still the one that we read, what we hold is whole. One that
-- has expired took along its revision, and maybe what others had written since we read it: a
-- conflict with revision ABSENT, for a storage must have that.
local ABSENT = -1

-- Whose work a newer document is for a chain that has read `base`: its own, if it has written
-- since, whoever came after it. Joined with, that work would be in the document twice.
local function author(doc, chain, base)
  local own = redis.call('HGET', doc.revkey, 'c:' .. chain)
  return own and tonumber(own) > base and chain or doc.chain
end

local function swap(uuid, base, body, chain, now)
  local doc = describe(uuid)
  if doc.bad then
    return { 'type', doc.key, doc.kind }
  end
  recognise(doc, math.floor(now / 1000))
  if base ~= 0 and doc.kind ~= 'none' and not (doc.ours and doc.revision == base) then
    if not doc.ours then
      adopt(doc, now, true)
    end
    local replaced = doc.replaced > base and '1' or ''
    return { 'conflict', whole(doc.revision), author(doc, chain, base), doc.text or '', replaced }
  elseif base > 0 and doc.kind == 'none' and doc.revision ~= base then
    return { 'conflict', whole(ABSENT), '', '', '' }
  end
  local reason = put(doc, body, chain, now, base == 0 and doc.kind ~= 'none')
  if reason then
    return { 'refused', reason }
  end
  return nil, doc.revision_text
end

-- Lets the document expire `seconds` from now, if it is still the revision that the caller means.
local function expire(uuid, revision, seconds, now)
  local doc = describe(uuid)
  local at = math.floor(now / 1000) + seconds * 1000
  if doc.key == doc.revkey then
    return
  end
  if doc.bad or doc.kind == 'none' then
    -- It lives no longer than a document that was deleted under us.
    if redis.call('PEXPIREAT', doc.revkey, whole(at)) == 1 then
      redis.call('HSET', doc.revkey, 'x', whole(at))
    end
    return
  end
  recognise(doc, math.floor(now / 1000))
  if doc.ours and doc.revision == revision then
    redis.call('PEXPIREAT', doc.key, whole(at))
    redis.call('PEXPIREAT', doc.revkey, whole(at))
    redis.call('HSET', doc.revkey, 'x', whole(at))
  end
end
