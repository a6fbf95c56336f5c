-- documents.lua: functions for the scripts that read or write vcon:<uuid>. script.py puts it behind
-- prelude.lua.
--
-- conserver:revision:<uuid> is a hash: r revision; n length of the document when a script last
-- wrote or read it; h SHA-1 of a RedisJSON value, which is compared instead of n; c the chain that
-- wrote the document; c:<chain> the last revision that the chain wrote; p the revision with which a
-- producer last replaced the document; x the expiry in ms that we gave both keys (absent: FAR);
-- e:<storage> the ETag that a storage returned. A document is "ours" while its length (or SHA-1)
-- and its expiry are the stored ones: a producer's SET removes the expiry.
--
-- These functions take most of the time that Redis spends on an item, so they read nothing twice.
-- They never read the text of a document, except of a RedisJSON value.

-- Looks at vcon:<uuid>. Returns a table: kind (its TYPE) and length; text and sha of a RedisJSON
-- value; bad if the key has another type.
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

-- Returns the same, with the fields of conserver:revision:<uuid> as `known`. If the revision key
-- has another type, `bad` is set and `key` names the revision key: then nothing may be written.
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

-- Sets doc.ours (no other program has changed the document since our last write) and doc.revision
-- (a number; 0 if none is known).
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

-- Gives the document its next revision, and stores the fields of its revision hash. replaces: a
-- producer has replaced the document, so that it contains nothing of the earlier revision.
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

-- Makes the document ours: gives it a new revision if a producer has replaced it, and the expiry
-- FAR. known: the caller has seen a document at this key before, even if the revision hash is gone.
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

-- Writes `body` as the next revision. A RedisJSON value stays a RedisJSON value. If the RedisJSON
-- module refuses the document, returns its error; then nothing was written.
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

-- In the place of a revision: there is no document in Redis (see swap).
local ABSENT = -1

-- Returns the chain that a conflict names as the author of the newer document: the caller's own if
-- it has written since `base`, because a merge would repeat its work; else the one that wrote last.
local function author(doc, chain, base)
  local own = redis.call('HGET', doc.revkey, 'c:' .. chain)
  return own and tonumber(own) > base and chain or doc.chain
end

-- Compare-and-set. base: the revision that the caller read; 0 overwrites unconditionally (a pushed
-- document); ABSENT writes only if there is no document (the caller has one from a storage).
-- Returns nil and the new revision; or {'type', key, kind}, {'refused', reason} or {'conflict',
-- revision, chain, text of a RedisJSON value or '' (read it with GET), '1' if a producer replaced
-- the document since base}.
-- If the document was deleted, and the revision hash still has the revision that the caller read,
-- the document is written again. If the revision hash has expired, too, other chains may have
-- written since: the answer is a conflict with revision ABSENT, and the newer document is in a
-- storage.
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
-- Returns how many bytes it has read: those of a RedisJSON value, else 0.
local function expire(uuid, revision, seconds, now)
  local doc = describe(uuid)
  local at, bytes_read = math.floor(now / 1000) + seconds * 1000, doc.sha and doc.length or 0
  if doc.key == doc.revkey then
    return bytes_read
  end
  if doc.bad or doc.kind == 'none' then
    -- The document is gone: its revision hash expires as the document would have.
    if redis.call('PEXPIREAT', doc.revkey, whole(at)) == 1 then
      redis.call('HSET', doc.revkey, 'x', whole(at))
    end
    return bytes_read
  end
  recognise(doc, math.floor(now / 1000))
  if doc.ours and doc.revision == revision then
    redis.call('PEXPIREAT', doc.key, whole(at))
    redis.call('PEXPIREAT', doc.revkey, whole(at))
    redis.call('HSET', doc.revkey, 'x', whole(at))
  end
  return bytes_read
end

-- Lets the document of a new dead letter, or of a cancelled item, expire. keep_s: in how many
-- seconds; 0: never. Returns how many bytes of the document it has read (see `expire`).
local function expire_with_record(record, keep_s, now)
  if keep_s > 0 and string.sub(record.payload, 1, 1) ~= '{' then
    local newest = read('HGET', 'conserver:revision:' .. record.payload, 'r')
    return expire(record.payload, tonumber(newest or 0), keep_s, now)
  end
  return 0
end
