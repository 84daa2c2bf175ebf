/** Sessions as callers see them: those of the engine, and the created ones that hold nothing yet. */
import { checkSessionId, errors, type ForkOrigin, LongmindError, type SessionInfo } from '../index.js';
import type { ServerContext } from './context.js';
import type { ReservedName } from './reserved.js';

interface SessionJson {
  id: string;
  object: 'session';
  state: SessionInfo['state'] | 'new';
  tokens: number;
  cached_tokens: number;
  last_used: number;
  forked_from: ForkOrigin | null;
  /** The LoRA adapter that it speaks with, if it has one. */
  adapter?: string;
}

const usedJson = (s: SessionInfo): SessionJson => ({
  id: s.id,
  object: 'session',
  state: s.state,
  tokens: s.tokens,
  cached_tokens: s.cachedTokens,
  last_used: Math.floor(s.lastUsed / 1000),
  forked_from: s.forkedFrom,
  ...(s.adapter != null && { adapter: s.adapter }),
});

const newJson = (n: ReservedName): SessionJson => ({
  id: n.id,
  object: 'session',
  state: 'new',
  tokens: 0,
  cached_tokens: 0,
  last_used: Math.floor(n.created / 1000),
  forked_from: null,
});

export class SessionNames {
  constructor(private readonly ctx: Pick<ServerContext, 'engine' | 'reserved'>) {}

  async list(owner: number): Promise<SessionJson[]> {
    const used = await this.ctx.engine.sessions.list(owner);
    for (const s of used) this.ctx.reserved.delete(s.id, owner);
    return [...used.map(usedJson), ...this.ctx.reserved.list(owner).map(newJson)];
  }

  /** What is there already stays as it is. */
  async create(id: string, owner: number): Promise<SessionJson> {
    checkSessionId(id, 'id');
    return this.get(id, owner).catch((e) => {
      if (!isUnknown(e)) throw e;
      return newJson(this.ctx.reserved.add(id, owner));
    });
  }

  get(id: string, owner: number): Promise<SessionJson> {
    return this.#or(id, owner, async () => usedJson(await this.ctx.engine.sessions.get(id, owner)), newJson);
  }

  tokens(id: string, owner: number): Promise<Int32Array> {
    return this.#or(
      id,
      owner,
      () => this.ctx.engine.sessions.tokens(id, owner),
      () => new Int32Array(0),
    );
  }

  async delete(id: string, owner: number): Promise<void> {
    const reserved = this.ctx.reserved.delete(id, owner);
    await this.ctx.engine.sessions.delete(id, owner).catch((e) => {
      if (!(reserved && isUnknown(e))) throw e;
    });
  }

  fork(id: string, newId: string, length: number | undefined, owner: number): Promise<SessionJson> {
    return this.#or(
      id,
      owner,
      async () => usedJson(await this.ctx.engine.sessions.fork(id, newId, { length, owner })),
      () => {
        this.#checkLength(id, length ?? 0);
        return this.create(newId, owner);
      },
    );
  }

  truncate(id: string, length: number, owner: number): Promise<SessionJson> {
    return this.#or(
      id,
      owner,
      async () => usedJson(await this.ctx.engine.sessions.truncate(id, length, owner)),
      (name) => {
        this.#checkLength(id, length);
        return newJson(name);
      },
    );
  }

  #checkLength(id: string, length: number): void {
    if (length > 0) throw errors.sessionTooShort(id, 0, length);
  }

  /** `used` where the engine has it, `reserved` where only the name is there. */
  async #or<T>(id: string, owner: number, used: () => Promise<T>, reserved: (n: ReservedName) => T | Promise<T>) {
    try {
      const value = await used();
      this.ctx.reserved.delete(id, owner);
      return value;
    } catch (e) {
      const name = isUnknown(e) ? this.ctx.reserved.get(id, owner) : null;
      if (!name) throw e;
      return reserved(name);
    }
  }
}

const isUnknown = (e: unknown): boolean => e instanceof LongmindError && e.code === 'session_not_found';
