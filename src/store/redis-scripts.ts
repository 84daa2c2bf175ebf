/**
 * What happens inside of Redis: each script is one step that nobody sees half done. All times are those of the server's
 * clock, so clocks of replicas do not matter.
 *
 * Keys of a session: hash `s` {token, exp, w: tokens of its last writes, b: bytes, a: adapter, u: last use}, string `i` (ids),
 * list `m` (marks). Of all: hash `n` (owner:name → id), sorted sets `u` (owner:id by last use) and `o` of each owner (id by
 * last use), `b` (bytes), `t` (tokens).
 */
import { WRITERS } from './types.js';

/** A lease on a session that was never written is forgotten after so long. */
const UNWRITTEN_MS = 3_600_000;

const NOW = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`;

const HOLDS = `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
`;

/** KEYS s i m t; ARGV ttl → {0, ms left} or {1, token, written, ids, marks, adapter, last use}. Tokens grow also if the server lost its data. */
export const ACQUIRE = `${NOW}
local left = tonumber(redis.call('HGET', KEYS[1], 'exp') or '0') - now
if left > 0 then return {0, left} end
local token = math.max(redis.call('INCR', KEYS[4]), t[1] * 1000000 + t[2])
redis.call('SET', KEYS[4], string.format('%.0f', token))
redis.call('HSET', KEYS[1], 'token', string.format('%.0f', token), 'exp', string.format('%.0f', now + ARGV[1]))
local written = redis.call('HEXISTS', KEYS[1], 'w')
if written == 0 then redis.call('PEXPIRE', KEYS[1], ${UNWRITTEN_MS}) end
return {1, token, written, redis.call('GET', KEYS[2]) or '', redis.call('LRANGE', KEYS[3], 0, -1),
  redis.call('HGET', KEYS[1], 'a') or '', redis.call('HGET', KEYS[1], 'u') or ''}
`;

/** KEYS s i m → {written, ids, marks, adapter, last use} */
export const LOAD = `
return {redis.call('HEXISTS', KEYS[1], 'w'), redis.call('GET', KEYS[2]) or '', redis.call('LRANGE', KEYS[3], 0, -1),
  redis.call('HGET', KEYS[1], 'a') or '', redis.call('HGET', KEYS[1], 'u') or ''}
`;

/** KEYS s i m n u o b; ARGV token owner id from ids keep adapter, count of names gone, names, then pairs of mark and name. */
export const WRITE = `${HOLDS}${NOW}
local from = tonumber(ARGV[4])
local old = redis.call('STRLEN', KEYS[2])
if from > old then return -1 end
if from == old then
  redis.call('APPEND', KEYS[2], ARGV[5])
elseif from == 0 then
  redis.call('SET', KEYS[2], ARGV[5])
else
  redis.call('SET', KEYS[2], redis.call('GETRANGE', KEYS[2], 0, from - 1) .. ARGV[5])
end
local bytes = from + #ARGV[5] - old
local keep = tonumber(ARGV[6])
for _, m in ipairs(redis.call('LRANGE', KEYS[3], keep, -1)) do bytes = bytes - #m end
if keep == 0 then redis.call('DEL', KEYS[3]) else redis.call('LTRIM', KEYS[3], 0, keep - 1) end
local at = 9 + ARGV[8]
for i = 9, at - 1 do redis.call('HDEL', KEYS[4], ARGV[2] .. ':' .. ARGV[i]) end
for i = at, #ARGV, 2 do
  redis.call('RPUSH', KEYS[3], ARGV[i])
  bytes = bytes + #ARGV[i]
  if ARGV[i + 1] ~= '' then redis.call('HSET', KEYS[4], ARGV[2] .. ':' .. ARGV[i + 1], ARGV[3]) end
end
local writers = {ARGV[1]}
for token in string.gmatch(redis.call('HGET', KEYS[1], 'w') or '', '%d+') do
  if #writers < ${WRITERS} then writers[#writers + 1] = token end
end
redis.call('HSET', KEYS[1], 'w', table.concat(writers, ' '), 'exp', '0', 'a', ARGV[7], 'u', string.format('%.0f', now))
redis.call('HINCRBY', KEYS[1], 'b', bytes)
redis.call('INCRBY', KEYS[7], bytes)
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[5], now, ARGV[2] .. ':' .. ARGV[3])
redis.call('ZADD', KEYS[6], now, ARGV[3])
return 1
`;

/** A session's keys, found by its name: `P` is the prefix. */
const FORGET = `
local function forget(P, owner, id)
  local S = owner .. ':' .. id
  for _, m in ipairs(redis.call('LRANGE', P .. 'm:' .. S, 0, -1)) do
    local name = cjson.decode(m).name
    if name ~= '' and redis.call('HGET', P .. 'n', owner .. ':' .. name) == id then
      redis.call('HDEL', P .. 'n', owner .. ':' .. name)
    end
  end
  redis.call('DECRBY', P .. 'b', redis.call('HGET', P .. 's:' .. S, 'b') or '0')
  redis.call('DEL', P .. 's:' .. S, P .. 'i:' .. S, P .. 'm:' .. S)
  redis.call('ZREM', P .. 'u', S)
  redis.call('ZREM', P .. 'o:' .. owner, id)
end
`;

/** KEYS s; ARGV token owner id prefix */
export const DROP = `${HOLDS}${FORGET}
forget(ARGV[4], ARGV[2], ARGV[3])
return 1
`;

/** KEYS s; ARGV token */
export const RELEASE = `${HOLDS}
if redis.call('HEXISTS', KEYS[1], 'w') == 1 then redis.call('HSET', KEYS[1], 'exp', '0') else redis.call('DEL', KEYS[1]) end
return 1
`;

/** KEYS s; ARGV token ttl. One that was given back, which may have been on its way at the same time, stays so. */
export const RENEW = `${HOLDS}${NOW}
if redis.call('HGET', KEYS[1], 'exp') == '0' then return 0 end
redis.call('HSET', KEYS[1], 'exp', string.format('%.0f', now + ARGV[2]))
if redis.call('HEXISTS', KEYS[1], 'w') == 0 then redis.call('PEXPIRE', KEYS[1], ${UNWRITTEN_MS}) end
return 1
`;

/** KEYS o; ARGV prefix owner ids → {bytes of ids, adapter} of each */
export const ABOUT = `
local out = {}
for i = 3, #ARGV do
  local S = ARGV[2] .. ':' .. ARGV[i]
  out[i - 2] = {redis.call('STRLEN', ARGV[1] .. 'i:' .. S), redis.call('HGET', ARGV[1] .. 's:' .. S, 'a') or ''}
end
return out
`;

/** KEYS u b; ARGV prefix sessions bytes most idle → how many were forgotten */
export const TRIM = `${NOW}${FORGET}
local done, skipped = 0, 0
while done < tonumber(ARGV[4]) do
  local S, used = unpack(redis.call('ZRANGE', KEYS[1], skipped, skipped, 'WITHSCORES'))
  if not S then break end
  local over = redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[2]) or
    tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[3]) or tonumber(used) < now - ARGV[5]
  if not over then break end
  if tonumber(redis.call('HGET', ARGV[1] .. 's:' .. S, 'exp') or '0') > now then
    skipped = skipped + 1
  else
    local at = string.find(S, ':', 1, true)
    forget(ARGV[1], string.sub(S, 1, at - 1), string.sub(S, at + 1))
    done = done + 1
  end
end
return done
`;
