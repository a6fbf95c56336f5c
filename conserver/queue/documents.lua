-- documents.lua: the document of an item, for the scripts that read or write vcon:<uuid> (put behind prelude.lua).
--
-- conserver:revision:<uuid> is a hash: r revision, n length as we wrote or saw it, h SHA-1 instead of a length where the
-- value is RedisJSON, c the chain that wrote it, x the expiry in ms that we gave it (absent: FAR), e:<storage> its ETags.
-- A document is ours while its length (or SHA-1) and its expiry are what we left: a producer's SET clears the expiry.

local function describe(uuid)
  local doc = { key = 'vcon:' .. uuid, revkey = 'conserver:revision:' .. uuid }
  doc.kind = kind_of(doc.key)
  if doc.kind == 'none' then
    return doc
  elseif doc.kind == 'string' then
    doc.length = redis.call('STRLEN', doc.key)
  elseif doc.kind == 'ReJSON-RL' then
    doc.text = redis.call('JSON.GET', doc.key)
    doc.length = #doc.text
    doc.sha = redis.sha1hex(doc.text)
  else
    doc.bad = true
  end
  return doc
end

-- Whether the document is still what we left there, and its revision (a number; 0 when it has none).
local function recognise(doc, now_ms)
  local seen = redis.call('HMGET', doc.revkey, 'r', 'n', 'h', 'x', 'c')
  doc.revision = tonumber(seen[1] or 0)
  doc.chain = seen[5] or ''
  if doc.revision == 0 or doc.kind == 'none' then
    doc.ours = false
  elseif doc.sha then
    doc.ours = doc.sha == seen[3]
  else
    local left_ms = redis.call('PTTL', doc.key)
    local expected = tonumber(seen[4] or FAR)
    doc.far = not seen[4]
    doc.ours = doc.length == tonumber(seen[2] or -1) and left_ms > 0 and math.abs(now_ms + left_ms - expected) <= 2000
  end
end

-- Makes the document ours: a new revision if somebody replaced it, and the far expiry that later shows a replacement.
local function adopt(doc, now)
  recognise(doc, math.floor(now / 1000))
  if doc.ours and doc.far then
    return
  end
  if not doc.ours then
    doc.revision = math.max(doc.revision + 1, now)
    redis.call('HSET', doc.revkey, 'r', whole(doc.revision), 'n', doc.length, 'h', doc.sha or '', 'c', '')
    doc.chain = ''
  end
  redis.call('HDEL', doc.revkey, 'x')
  redis.call('PEXPIREAT', doc.key, FAR)
  redis.call('PEXPIREAT', doc.revkey, FAR)
end

-- Puts `body` there as the next revision. A RedisJSON value stays one.
local function put(doc, body, chain, now)
  doc.revision = math.max((doc.revision or 0) + 1, now)
  if doc.kind == 'ReJSON-RL' then
    redis.call('JSON.SET', doc.key, '$', body)
    redis.call('PEXPIREAT', doc.key, FAR)
    doc.sha = redis.sha1hex(redis.call('JSON.GET', doc.key))
  else
    redis.call('SET', doc.key, body, 'PXAT', FAR)
    doc.sha = nil
  end
  redis.call('HSET', doc.revkey, 'r', whole(doc.revision), 'n', #body, 'h', doc.sha or '', 'c', chain)
  redis.call('HDEL', doc.revkey, 'x')
  redis.call('PEXPIREAT', doc.revkey, FAR)
end

-- Compare-and-set. base is the revision that the caller read; 0 replaces whatever is there (a pushed document).
-- Answers nil and the new revision, or a refusal: {'type', kind} or {'conflict', revision, chain, text or ''}.
-- A document that is gone is written again: it was deleted or lost under us, and what we hold is whole.
local function swap(uuid, base, body, chain, now, carry)
  local doc = describe(uuid)
  if doc.bad then
    return { 'type', doc.kind }
  end
  recognise(doc, math.floor(now / 1000))
  if base ~= 0 and doc.kind ~= 'none' and not (doc.ours and doc.revision == base) then
    if not doc.ours then
      adopt(doc, now)
    end
    local text = doc.text
    if not text and doc.length <= carry then
      text = redis.call('GET', doc.key)
    end
    return { 'conflict', whole(doc.revision), doc.chain, text or '' }
  end
  put(doc, body, chain, now)
  return nil, whole(doc.revision)
end

-- Lets the document expire `seconds` from now, if it is still the revision that the caller means.
local function expire(uuid, revision, seconds, now)
  local doc = describe(uuid)
  local at = math.floor(now / 1000) + seconds * 1000
  if doc.bad or doc.kind == 'none' then
    redis.call('PEXPIREAT', doc.revkey, whole(at)) -- it lives no longer than a document that was deleted under us
    return
  end
  recognise(doc, math.floor(now / 1000))
  if doc.ours and doc.revision == revision then
    redis.call('PEXPIREAT', doc.key, at)
    redis.call('PEXPIREAT', doc.revkey, at)
    redis.call('HSET', doc.revkey, 'x', whole(at))
  end
end
