/**
 * Conversations in a store that several servers share. Each is kept as a folder keeps it: its beginning and the changes since,
 * in order. Whoever changes one, or makes a response in it, has a lease on it.
 */
import { randomUUID } from 'node:crypto';
import { LongmindError } from '../../index.js';
import { type Held, type KeptMark, type KeptSession, Leases, type MeasuredStore } from '../../store/index.js';
import { serverErrors } from '../errors.js';
import { apply, type Change, type Conversation, type Entry, sizeOf } from './conversation.js';
import { type AddEntries, type ConversationKeeper, MAX_CHARS, MAX_CHARS_EACH } from './conversations.js';

const TRIM_MS = 60_000;
/** A conversation of more changes, and more than twice its items, is written whole again. */
const SLACK = 256;

export class SharedConversations implements ConversationKeeper {
  readonly #leases: Leases;
  readonly #trims: NodeJS.Timeout;

  constructor(
    private readonly store: MeasuredStore,
    /** Conversations kept. */
    max: number,
    leaseMs: number,
  ) {
    this.#leases = new Leases(store, leaseMs);
    const bounds = { sessions: max, bytes: MAX_CHARS, idleMs: 0 };
    this.#trims = setInterval(() => void store.trim(bounds).catch(() => {}), TRIM_MS).unref();
  }

  async create(owner: number, metadata: Record<string, string>, entries: Entry[]): Promise<Conversation> {
    const id = `conv_${randomUUID().replaceAll('-', '')}`;
    const created = Math.floor(Date.now() / 1000);
    const c: Conversation = { id, owner, created, metadata, entries, base: null, covered: 0 };
    checkSize(sizeOf(entries));
    await this.#write(await this.#leases.acquire({ id, owner }), 0, c);
    return c;
  }

  async get(id: string, owner: number, param = 'id'): Promise<Readonly<Conversation>> {
    const kept = await this.store.load({ id, owner });
    if (!kept) throw serverErrors.conversationUnknown(id, param);
    return read(kept);
  }

  change(id: string, owner: number, change: Change): Promise<Readonly<Conversation>> {
    return this.#holding(id, owner, 'id', async (c, held) => {
      await this.#change(c, held, change);
      return c;
    });
  }

  delete(id: string, owner: number): Promise<void> {
    return this.#holding(id, owner, 'id', (_, { lease }) => this.store.drop(lease));
  }

  during<T>(
    id: string,
    owner: number,
    work: (c: Readonly<Conversation>, add: AddEntries, lost: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return this.#holding(id, owner, 'conversation', (c, held) => {
      const lost = new AbortController();
      held.onLost = () => lost.abort(serverErrors.conversationLost(id));
      return work(c, (entries, base) => this.#change(c, held, { op: 'add', entries, base }), lost.signal);
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#trims);
    await this.#leases.close();
    await this.store.close();
  }

  async #holding<T>(
    id: string,
    owner: number,
    param: string,
    work: (c: Conversation, held: Held) => Promise<T>,
  ): Promise<T> {
    const held = await this.#leases.acquire({ id, owner }).catch((e) => {
      if (!(e instanceof LongmindError) || e.code !== 'session_busy') throw e;
      throw serverErrors.conversationLocked(id, param, e.retryAfterMs);
    });
    try {
      if (!held.kept) throw serverErrors.conversationUnknown(id, param);
      return await work(read(held.kept), held);
    } finally {
      await this.#leases.release(held);
    }
  }

  async #change(c: Conversation, held: Held, change: Change): Promise<void> {
    const { length } = held.kept!.marks;
    const next = { ...c, entries: [...c.entries] };
    apply(next, change);
    if (change.op === 'add') checkSize(sizeOf(next.entries));
    if (length > SLACK && length > 2 * next.entries.length) await this.#write(held, 0, next);
    else await this.#write(held, length, change);
    Object.assign(c, next);
  }

  /** What stands there from `keepMarks` on is now this. */
  async #write(held: Held, keepMarks: number, value: Conversation | Change): Promise<void> {
    const marks = [{ ...blank, note: JSON.stringify(value) }];
    const rest = { adapter: null, before: null, goneNames: [] };
    try {
      await this.#leases.write(held, { from: 0, ids: new Int32Array(0), keepMarks, marks, ...rest });
    } catch (e) {
      if (!(e instanceof LongmindError)) throw e;
      const { id } = held.lease;
      throw e.code === 'session_lease_lost'
        ? serverErrors.conversationLost(id)
        : serverErrors.conversationUncertain(this.store.place, id);
    }
  }
}

const blank: Omit<KeptMark, 'note'> = {
  ...{ name: '', prompt: 0, end: 0, cachedTokens: 0, finishReason: '', head: '', own: false },
};

function read({ marks: [first, ...changes] }: KeptSession): Conversation {
  const c = JSON.parse(first!.note) as Conversation;
  for (const { note } of changes) apply(c, JSON.parse(note) as Change);
  return c;
}

function checkSize(chars: number): void {
  if (chars > MAX_CHARS_EACH) throw serverErrors.conversationTooLarge(chars, MAX_CHARS_EACH, 'items');
}
