/** Sessions and the turns with names of a store that several servers share: all but to say something in them. */
import { checkSessionId } from '../../config.js';
import { errors } from '../../errors.js';
import type { Change, KeptMark, KeptSession, Lease, ListedSession, MeasuredStore } from '../../store/index.js';
import type { Checkpoint, Engine, FinishReason, SessionInfo } from '../../types.js';

/** What the engine here has copies of. */
export interface Copies {
  list(owner: number): Promise<SessionInfo[]>;
  get(id: string, owner: number): Promise<SessionInfo | null>;
  forget(id: string, owner: number): Promise<void>;
}

export class KeptSessions {
  constructor(
    private readonly store: MeasuredStore,
    private readonly leaseMs: number,
    private readonly copies: Copies,
  ) {}

  readonly sessions: Engine['sessions'] = {
    list: async (owner = 0) => {
      const [kept, here] = await Promise.all([this.store.list(owner), this.copies.list(owner)]);
      const byId = new Map(here.map((s) => [s.id, s]));
      return kept.map((s) => info(s, byId.get(s.id) ?? null));
    },
    get: async (id, owner = 0) => this.#info(id, await this.#load(id, owner), owner),
    tokens: async (id, owner = 0) => (await this.#load(id, owner)).ids,
    fork: async (id, newId, { length, owner = 0 } = {}) => {
      checkSessionId(newId);
      // one that somebody writes is refused, as everywhere
      const kept = await this.#holding(id, owner, async (_, kept) => kept);
      const tokens = length ?? kept.ids.length;
      checkLength(id, tokens, kept);
      const change = { ...nothing, ids: kept.ids.slice(0, tokens), adapter: kept.adapter };
      const { lease, kept: other } = await this.store.acquire({ id: newId, owner }, this.leaseMs);
      if (other) {
        await this.store.release(lease);
        throw errors.invalidRequest(`there is a session '${newId}' already`, 'id');
      }
      await this.store.write(lease, change);
      const origin = { id, tokens };
      return {
        ...(await this.#info(newId, { ...kept, ids: change.ids, lastUsed: Date.now() }, owner)),
        forkedFrom: origin,
      };
    },
    truncate: async (id, length, owner = 0) =>
      this.#holding(id, owner, async (lease, kept) => {
        checkLength(id, length, kept);
        await this.store.write(lease, truncated(kept, length));
        return this.#info(id, { ...kept, ids: kept.ids.slice(0, length), lastUsed: Date.now() }, owner);
      }),
    delete: (id, owner = 0) =>
      this.#holding(id, owner, async (lease) => {
        await this.store.drop(lease);
        await this.copies.forget(id, owner);
      }),
  };

  readonly checkpoints: Engine['checkpoints'] = {
    get: async (name, owner = 0) => {
      const { marks } = await this.#withName(name, owner);
      return checkpoint(
        marks,
        marks.findIndex((m) => m.name === name),
      );
    },
    path: async (name, owner = 0) => {
      const { marks, ids } = await this.#withName(name, owner);
      const at = marks.findIndex((m) => m.name === name);
      return {
        turns: marks.slice(0, at + 1).map((_, i) => checkpoint(marks, i)),
        tokens: ids.slice(0, marks[at]!.end),
      };
    },
    delete: async (name, owner = 0) => {
      const id = await this.store.find(name, owner);
      if (id === null) throw errors.checkpointUnknown(name);
      await this.#holding(id, owner, (lease, kept) => this.#unname(name, lease, kept)).catch((e) => {
        throw e.code === 'session_not_found' ? errors.checkpointUnknown(name) : e;
      });
    },
  };

  /** What no other name needs goes with it. */
  async #unname(name: string, lease: Lease, kept: KeptSession): Promise<void> {
    const at = kept.marks.findIndex((m) => m.name === name);
    if (at < 0) throw errors.checkpointUnknown(name);
    const { own } = kept.marks[at]!;
    const marks = kept.marks.map((m, i) => (i === at ? { ...m, name: '' } : m));
    while (marks.at(-1)?.name === '') marks.pop();
    const end = own ? (marks.at(-1)?.end ?? 0) : kept.ids.length;
    if (own && end === 0) {
      await this.store.drop(lease);
      await this.copies.forget(lease.id, lease.owner);
      return;
    }
    const keepMarks = Math.min(at, marks.length);
    await this.store.write(lease, {
      ...{ from: end, ids: new Int32Array(0), adapter: kept.adapter, keepMarks, marks: marks.slice(keepMarks) },
      ...{ before: marks[keepMarks - 1] ?? null, goneNames: [name] },
    });
  }

  /** Nobody else writes it meanwhile. @throws session_not_found, session_busy */
  async #holding<T>(id: string, owner: number, work: (lease: Lease, kept: KeptSession) => Promise<T>): Promise<T> {
    const { lease, kept } = await this.store.acquire({ id, owner }, this.leaseMs);
    try {
      if (!kept) throw errors.sessionUnknown(id);
      return await work(lease, kept);
    } finally {
      // a write has given it back; one that cannot be given back ends by itself
      await this.store.release(lease).catch(() => {});
    }
  }

  async #load(id: string, owner: number): Promise<KeptSession> {
    const kept = await this.store.load({ id, owner });
    if (!kept) throw errors.sessionUnknown(id);
    return kept;
  }

  async #withName(name: string, owner: number): Promise<KeptSession> {
    const id = await this.store.find(name, owner);
    const kept = id === null ? null : await this.store.load({ id, owner });
    if (!kept?.marks.some((m) => m.name === name)) throw errors.checkpointUnknown(name);
    return kept;
  }

  async #info(id: string, { ids, lastUsed, adapter }: KeptSession, owner: number): Promise<SessionInfo> {
    return info({ id, tokens: ids.length, lastUsed, adapter }, await this.copies.get(id, owner));
  }
}

const nothing: Change = {
  ...{ from: 0, ids: new Int32Array(0), adapter: null, keepMarks: 0, marks: [], before: null, goneNames: [] },
};

/** A copy here tells what of it is computed. One in use has more than what is kept; an old one has something else. */
function info(kept: ListedSession, here: SessionInfo | null): SessionInfo {
  if (here?.state === 'active') return here;
  if (here?.tokens === kept.tokens) return { ...here, ...kept };
  return { ...kept, state: 'evicted', cachedTokens: 0, forkedFrom: null };
}

function checkLength(id: string, length: number, { ids }: KeptSession): void {
  if (length > ids.length) throw errors.sessionTooShort(id, ids.length, length);
}

function truncated({ adapter, marks }: KeptSession, length: number): Change {
  const keepMarks = marks.filter((m) => m.end <= length).length;
  const goneNames = marks.slice(keepMarks).flatMap((m) => (m.name === '' ? [] : [m.name]));
  return { ...nothing, from: length, adapter, keepMarks, before: marks[keepMarks - 1] ?? null, goneNames };
}

function checkpoint(marks: readonly KeptMark[], i: number): Checkpoint {
  const { own: _, finishReason, ...mark } = marks[i]!;
  return { ...mark, finishReason: finishReason as FinishReason, start: marks[i - 1]?.end ?? 0 };
}
