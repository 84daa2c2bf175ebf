/** Sessions in Redis, or what speaks like it (Valkey). Every step is a script, so that it is done whole or not at all. */
import { createHash } from 'node:crypto';
import type * as redis from '@redis/client';
import { errors } from '../errors.js';
import { decodeSession, encodeIds, encodeMarks } from './encoding.js';
import { ABOUT, ACQUIRE, DROP, LOAD, RELEASE, RENEW, TRIM, WRITE } from './redis-scripts.js';
import type { Change, KeptSession, Lease, ListedSession, SessionKey, SessionStore, StoreBounds } from './types.js';

/** Milliseconds. */
const CONNECT_MS = 2_000;
const ANSWER_MS = 5_000;
const MAX_BACKOFF_MS = 2_000;
/** Commands that wait for an answer at most; more are refused at once. */
const MAX_COMMANDS = 10_000;
/** Sessions looked at, or forgotten, by one script: others wait meanwhile. */
const PIECE = 500;

type Arg = string | Buffer;
/** A map, or by RESP2 a list of names and values. */
type Settings = Record<string, unknown> | unknown[];
/** Whether it was written, ids, marks, adapter, last use. */
type Kept = [number, Buffer, Buffer[], Buffer, Buffer];

export class RedisStore implements SessionStore {
  readonly #client: ReturnType<typeof redis.createClient>;
  readonly #prefix: string;
  readonly #shas = new Map<string, string>();
  readonly #types: object;
  /** The first attempt to connect has ended. */
  readonly #tried: Promise<void>;
  /** Why there is no connection. */
  #why: Error | null = null;

  /** `namespace`: of what belongs together; others in the same database do not see it. */
  constructor({ createClient, RESP_TYPES }: typeof redis, url: string, namespace: string) {
    // in braces: a cluster keeps all of it together
    this.#prefix = `{longmind:${namespace}}:`;
    this.#types = { [RESP_TYPES.BLOB_STRING]: Buffer };
    this.#client = createClient({
      url,
      disableOfflineQueue: true,
      commandsQueueMaxLength: MAX_COMMANDS,
      socket: {
        connectTimeout: CONNECT_MS,
        reconnectStrategy: (tries) => Math.min(MAX_BACKOFF_MS, 50 * 2 ** tries) * (0.5 + Math.random() / 2),
      },
    });
    this.#client.on('error', (e: Error) => {
      this.#why = e;
    });
    this.#client.on('ready', () => {
      this.#why = null;
    });
    this.#tried = new Promise((resolve) => {
      this.#client.once('ready', resolve);
      this.#client.once('error', () => resolve());
    });
    // a process that has nothing else to do ends
    this.#client.unref();
    // goes on trying by itself
    this.#client.connect().catch(() => {});
  }

  async acquire(key: SessionKey, ttlMs: number) {
    const reply = await this.#run(ACQUIRE, [...this.#keysOf(key), `${this.#prefix}t`], [String(ttlMs)]);
    if (Number(reply[0]) === 0) throw errors.sessionElsewhere(key.id, Number(reply[1]));
    const [, token, ...kept] = reply as [number, number, ...Kept];
    return { lease: { ...key, token: Number(token) }, kept: read(kept) };
  }

  async load(key: SessionKey) {
    return read((await this.#run(LOAD, this.#keysOf(key), [])) as Kept);
  }

  async write(lease: Lease, { from, ids, adapter, keepMarks, marks, before, goneNames }: Change) {
    const { id, owner } = lease;
    const P = this.#prefix;
    const keys = [...this.#keysOf(lease), `${P}n`, `${P}u`, `${P}o:${owner}`, `${P}b`];
    const args: Arg[] = [String(lease.token), String(owner), id, String(4 * from), encodeIds(ids), String(keepMarks)];
    args.push(adapter ?? '', String(goneNames.length), ...goneNames);
    for (const [i, text] of encodeMarks(marks, before).entries()) args.push(text, marks[i]!.name);
    this.#held(lease, await this.#run(WRITE, keys, args));
  }

  async writers(key: SessionKey) {
    const tokens = await this.#send(['HGET', this.#keysOf(key)[0]!, 'w']);
    return tokens === null ? [] : `${tokens}`.split(' ').map(Number);
  }

  async drop(lease: Lease) {
    const args = [String(lease.token), String(lease.owner), lease.id, this.#prefix];
    this.#held(lease, await this.#run(DROP, this.#keysOf(lease).slice(0, 1), args));
  }

  async release(lease: Lease) {
    await this.#run(RELEASE, this.#keysOf(lease).slice(0, 1), [String(lease.token)]);
  }

  async renew(leases: readonly Lease[], ttlMs: number) {
    const held = await Promise.all(
      leases.map((l) => this.#run(RENEW, this.#keysOf(l).slice(0, 1), [String(l.token), String(ttlMs)])),
    );
    return leases.filter((_, i) => Number(held[i]) !== 1);
  }

  async find(name: string, owner: number) {
    const id = await this.#send(['HGET', `${this.#prefix}n`, `${owner}:${name}`]);
    return id === null ? null : String(id);
  }

  async list(owner: number) {
    const key = `${this.#prefix}o:${owner}`;
    // as RESP3 has it: pairs of id and time
    const pairs = (await this.#send(['ZRANGE', key, '0', '-1', 'WITHSCORES'])) as [Buffer, number][];
    const out: ListedSession[] = [];
    for (let i = 0; i < pairs.length; i += PIECE) {
      const some = pairs.slice(i, i + PIECE);
      const about = await this.#run(ABOUT, [key], [this.#prefix, String(owner), ...some.map(([id]) => id)]);
      some.forEach(([id, used], k) => {
        const [bytes, adapter] = about[k];
        out.push({ id: String(id), tokens: Number(bytes) / 4, lastUsed: Number(used), adapter: `${adapter}` || null });
      });
    }
    return out;
  }

  async trim({ sessions, bytes, idleMs }: StoreBounds) {
    const P = this.#prefix;
    let all = 0;
    for (;;) {
      const args = [P, String(sessions), String(bytes), String(PIECE), String(idleMs || Number.MAX_SAFE_INTEGER)];
      const done = Number(await this.#run(TRIM, [`${P}u`, `${P}b`], args));
      all += done;
      if (done < PIECE) return all;
    }
  }

  async about() {
    const info = String(await this.#send(['INFO', 'server']));
    const valkey = /valkey_version:(\S+)/.exec(info)?.[1];
    return valkey ? `Valkey ${valkey}` : `Redis ${/redis_version:(\S+)/.exec(info)?.[1] ?? ''}`;
  }

  async weakness() {
    let settings: Record<string, string>;
    try {
      const of = async (pattern: string) => pairsOf((await this.#send(['CONFIG', 'GET', pattern])) as Settings);
      settings = { ...(await of('append*')), ...(await of('maxmemory*')) };
    } catch (e) {
      // a server that others run does not let its settings be read
      if (/^(ERR|NOPERM)/.test((e as Error).message)) return null;
      throw e;
    }
    const policy = settings['maxmemory-policy'];
    if (Number(settings.maxmemory) > 0 && policy !== 'noeviction')
      return `maxmemory-policy is ${policy}: sessions are thrown away when memory is short; it must be noeviction`;
    if (settings.appendonly === 'no') return 'appendonly is no: a crash loses what was written since its last snapshot';
    if (settings.appendfsync === 'always') return null;
    return `appendfsync is ${settings.appendfsync}: a power loss loses about a second; only 'always' loses nothing`;
  }

  async close() {
    this.#client.destroy();
  }

  // ---------------------------------------------------------------- inside

  #keysOf({ owner, id }: SessionKey): string[] {
    return ['s', 'i', 'm'].map((kind) => `${this.#prefix}${kind}:${owner}:${id}`);
  }

  #held({ id }: Lease, reply: unknown): void {
    if (Number(reply) !== 1) throw errors.leaseLost(id);
  }

  // biome-ignore lint/suspicious/noExplicitAny: a script's answer is what it is
  async #run(script: string, keys: string[], args: Arg[]): Promise<any> {
    let sha = this.#shas.get(script);
    if (!sha) {
      sha = createHash('sha1').update(script).digest('hex');
      this.#shas.set(script, sha);
    }
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.#send(['EVALSHA', sha, ...rest]);
    } catch (e) {
      // a server that has not seen it yet, or was started anew: nothing was done
      if (!/^NOSCRIPT/.test((e as Error).message)) throw e;
      return this.#send(['EVAL', script, ...rest]);
    }
  }

  async #send(args: Arg[]): Promise<unknown> {
    await this.#tried;
    if (!this.#client.isReady && this.#why) throw this.#why;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS} ms`)), ANSWER_MS);
    });
    try {
      return await Promise.race([this.#client.sendCommand(args, { typeMapping: this.#types }), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function read([written, ids, marks, adapter, used]: Kept): KeptSession | null {
  if (!Number(written)) return null;
  return decodeSession({ ids, marks: marks.map(String), adapter: `${adapter}` || null, used: Number(`${used}`) });
}

function pairsOf(settings: Settings): Record<string, string> {
  if (!Array.isArray(settings)) return Object.fromEntries(Object.entries(settings).map(([k, v]) => [k, `${v}`]));
  const out: Record<string, string> = {};
  for (let i = 0; i < settings.length; i += 2) out[`${settings[i]}`] = `${settings[i + 1]}`;
  return out;
}
