-- documents.lua: functions for the scripts that read or write vcon:<uuid>. script.py puts it behind
-- prelude.lua.
--
-- conserver:revision:<uuid> is a hash: r revision; n length of the document as we wrote or saw it;
-- h its SHA-1 instead, for a RedisJSON value; c the chain that wrote it; c:<chain> the revision
-- that each chain wrote last; p the revision by which a producer replaced it last; x the expiry in
-- ms that we gave both keys (absent: FAR); e:<storage> the ETag that a storage returned. A
-- document is "ours" while its length (or SHA-1) and its expiry are as we left them: a producer's
-- SET removes the expiry.
--
-- These functions are most of what an item costs Redis, so they read nothing twice. They never read
-- the text of a document, except of a RedisJSON value.

-- Looks at vcon:<uuid>. Returns its kind and length; text and sha of a RedisJSON value; bad if it
-- is no document.
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

-- The same, with the fields of conserver:revision:<uuid>. If that key has another type it is the
-- bad one, and nothing may be written.
local function describe(uuid)
  local doc = look(uuid)
  doc.known = read('HMGET', doc.revkey, 'r', 'n', 'h', 'x', 'c', 'p')
  if not doc.known then
    doc.kind, doc.bad, doc.key = kind_of(doc.revkey), true, doc.revkey
  end
  return doc
end

-- Returns whether a key still has the expiry that we gave it, within 2 s.
local function lives_until(key, expected_ms, now_ms)
  local left_ms = redis.call('PTTL', key)
  if left_ms > 0 and math.abs(now_ms + left_ms - expected_ms) > 2000 then
    -- On a machine that was suspended during this script, now_ms is old: read the time again.
    now_ms, left_ms = now_us() / 1000, redis.call('PTTL', key)
  end
  return left_ms > 0 and math.abs(now_ms + left_ms - expected_ms) <= 2000
end

-- Sets doc.ours (the document is as we left it) and doc.revision (a number; 0: none known).
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

-- Gives the document its next revision and stores what is known of it. replaces: a producer has
-- replaced the document, so it contains nothing of the revision before.
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

-- Gives the revision hash the same expiry as the document: FAR.
local function keep(doc)
  if doc.seen.x then
    redis.call('HDEL', doc.revkey, 'x')
  end
  if doc.seen.x or not doc.seen.r then
    redis.call('PEXPIREAT', doc.revkey, FAR_TEXT)
  end
end

-- Makes the document ours: a new revision if a producer replaced it, and the expiry FAR. known: the
-- caller has seen a document at this key before, even if the revision hash is gone.
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

-- Writes `body` as the next revision. A RedisJSON value stays one. Returns the error of the
-- RedisJSON module if it refuses the document; then nothing was written.
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

-- Compare-and-set. base: the revision that the caller read; 0 overwrites unconditionally (a pushed
-- document); ABSENT writes only if there is no document (the caller's came from a storage). Returns
-- nil and the new revision; or {'type', key, kind}, {'refused', reason} or {'conflict', revision,
-- chain, text of a RedisJSON value or '' (read it with GET), '1' if a producer replaced the
-- document since base}.
-- A document that was deleted meanwhile is written again if its revision is still the one that the
-- caller read: the caller holds all of it. If the revision hash has expired too, others may have
-- written since: that is a conflict with revision ABSENT, and the newer document is in a storage.
local ABSENT = -1

-- Returns which chain wrote the newer document that `chain`, which has read `base`, has found:
-- `chain` itself if any write since base was its own, because merging would repeat its work; else
-- the chain that wrote last.
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

-- Sets the expiry of the document to `seconds` from now, if it still has the given revision.
local function expire(uuid, revision, seconds, now)
  local doc = describe(uuid)
  local at = math.floor(now / 1000) + seconds * 1000
  if doc.key == doc.revkey then
    return
  end
  if doc.bad or doc.kind == 'none' then
    -- The document is gone: its revision hash expires as the document would have.
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

-- Sets the expiry of the document of a new dead letter to that of the letter. keep_s: the time for
-- which letters are kept, in seconds; 0: for ever.
local function expire_with_letter(record, keep_s, now)
  if keep_s > 0 and string.sub(record.payload, 1, 1) ~= '{' then
    local newest = read('HGET', 'conserver:revision:' .. record.payload, 'r')
    expire(record.payload, tonumber(newest or 0), keep_s, now)
  end
end
