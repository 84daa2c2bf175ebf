/**
 * The conversations of all callers, each seen by its owner alone. Beyond a number of them, or of characters in all, those
 * that were used least recently are forgotten.
 */
import { randomUUID } from 'node:crypto';
import { serverErrors } from '../errors.js';
import { apply, type Change, type Conversation, type Entry, sizeOf } from './conversation.js';

/** Where conversations outlive the process. What a method was called with is kept when it returns. */
export interface ConversationStore {
  create(c: Conversation): void;
  /** `c` is as it was before. */
  change(c: Conversation, change: Change): void;
  delete(c: Conversation): void;
  close(): Promise<void>;
}

type Awaitable<T> = T | Promise<T>;

/** Adds what a response said; it is kept when this is done. */
export type AddEntries = (entries: Entry[], base?: string) => Awaitable<void>;

/** Conversations, wherever they are kept. Each is seen by its owner alone. */
export interface ConversationKeeper {
  /** @throws conversation_too_large */
  create(owner: number, metadata: Record<string, string>, entries: Entry[]): Awaitable<Conversation>;
  /** @throws conversation_not_found */
  get(id: string, owner: number, param?: string): Awaitable<Readonly<Conversation>>;
  /** @throws conversation_not_found, conversation_locked, conversation_too_large */
  change(id: string, owner: number, change: Change): Awaitable<Readonly<Conversation>>;
  /** @throws conversation_not_found, conversation_locked */
  delete(id: string, owner: number): Awaitable<void>;
  /**
   * Nobody else changes the conversation while `work` runs, which adds to it by `add`, once at most. `lost`: another server
   * has it now, and nothing can be added any more.
   * @throws conversation_not_found, conversation_locked
   */
  during<T>(
    id: string,
    owner: number,
    work: (c: Readonly<Conversation>, add: AddEntries, lost?: AbortSignal) => Promise<T>,
  ): Promise<T>;
  close(): Awaitable<void>;
}

interface Bounds {
  /** Conversations. */
  max: number;
  /** Characters of all, and of one of them. */
  maxChars: number;
  maxCharsEach: number;
}

interface Kept {
  conversation: Conversation;
  chars: number;
  /** A response is being made in it. */
  busy: boolean;
}

/** Characters of all, and of one of them. */
export const MAX_CHARS = 2 ** 27;
export const MAX_CHARS_EACH = 2 ** 24;
const DEFAULTS = { maxChars: MAX_CHARS, maxCharsEach: MAX_CHARS_EACH };

export class Conversations implements ConversationKeeper {
  /** The least recently used first. */
  readonly #byId = new Map<string, Kept>();
  readonly #bounds: Bounds;
  #chars = 0;

  constructor(
    bounds: Pick<Bounds, 'max'> & Partial<Bounds>,
    private readonly store: ConversationStore | null = null,
    recovered: readonly Conversation[] = [],
  ) {
    this.#bounds = { ...DEFAULTS, ...bounds };
    for (const c of recovered) this.#add(c);
    this.#makeRoom();
  }

  create(owner: number, metadata: Record<string, string>, entries: Entry[]): Conversation {
    const id = `conv_${randomUUID().replaceAll('-', '')}`;
    const created = Math.floor(Date.now() / 1000);
    const c: Conversation = { id, owner, created, metadata, entries, base: null, covered: 0 };
    this.#checkSize(sizeOf(entries), 'items');
    this.store?.create(c);
    this.#add(c);
    this.#makeRoom();
    return c;
  }

  /** @throws conversation_not_found */
  get(id: string, owner: number, param = 'id'): Readonly<Conversation> {
    return this.#use(id, owner, param).conversation;
  }

  /** @throws conversation_not_found, conversation_locked, conversation_too_large */
  change(id: string, owner: number, change: Change): Readonly<Conversation> {
    const kept = this.#use(id, owner, 'id');
    if (kept.busy) throw serverErrors.conversationLocked(id, 'id');
    this.#change(kept, change);
    return kept.conversation;
  }

  /** @throws conversation_not_found, conversation_locked */
  delete(id: string, owner: number): void {
    const kept = this.#use(id, owner, 'id');
    if (kept.busy) throw serverErrors.conversationLocked(id, 'id');
    this.#forget(kept);
  }

  /**
   * Nobody else changes the conversation while `work` runs, which adds to it by `add`.
   * @throws conversation_not_found, conversation_locked
   */
  async during<T>(
    id: string,
    owner: number,
    work: (c: Readonly<Conversation>, add: AddEntries) => Promise<T>,
  ): Promise<T> {
    const kept = this.#use(id, owner, 'conversation');
    if (kept.busy) throw serverErrors.conversationLocked(id, 'conversation');
    kept.busy = true;
    try {
      return await work(kept.conversation, (entries, base) => this.#change(kept, { op: 'add', entries, base }));
    } finally {
      kept.busy = false;
    }
  }

  async close(): Promise<void> {
    await this.store?.close();
  }

  #use(id: string, owner: number, param: string): Kept {
    const kept = this.#byId.get(id);
    if (kept?.conversation.owner !== owner) throw serverErrors.conversationUnknown(id, param);
    this.#byId.delete(id);
    this.#byId.set(id, kept);
    return kept;
  }

  #change(kept: Kept, change: Change): void {
    const more = sizeOf(change);
    if (change.op === 'add') this.#checkSize(kept.chars + more, 'items');
    this.store?.change(kept.conversation, change);
    apply(kept.conversation, change);
    this.#count(kept, change.op === 'add' ? kept.chars + more : charsOf(kept.conversation));
    this.#makeRoom();
  }

  #add(conversation: Conversation): void {
    const kept = { conversation, chars: 0, busy: false };
    this.#byId.set(conversation.id, kept);
    this.#count(kept, charsOf(conversation));
  }

  #count(kept: Kept, chars: number): void {
    this.#chars += chars - kept.chars;
    kept.chars = chars;
  }

  #checkSize(chars: number, param: string): void {
    const { maxCharsEach } = this.#bounds;
    if (chars > maxCharsEach) throw serverErrors.conversationTooLarge(chars, maxCharsEach, param);
  }

  /** The last one, which was just used, stays. */
  #makeRoom(): void {
    const { max, maxChars } = this.#bounds;
    let others = this.#byId.size - 1;
    for (const kept of this.#byId.values()) {
      if (others-- <= 0 || (this.#byId.size <= max && this.#chars <= maxChars)) return;
      if (!kept.busy) this.#forget(kept);
    }
  }

  #forget(kept: Kept): void {
    this.store?.delete(kept.conversation);
    this.#byId.delete(kept.conversation.id);
    this.#count(kept, 0);
  }
}

const charsOf = ({ entries, metadata }: Conversation): number => sizeOf(entries) + sizeOf(metadata);
