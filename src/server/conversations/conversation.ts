/** A conversation of /v1/conversations: its items, and the kept response that ends with some of them. */
import type { Item, ItemJson } from '../responses-api/items.js';
import { inputJson } from '../responses-api/items.js';

export interface Entry {
  id: string;
  item: Item;
  /** Of an answer that was cut off. */
  incomplete?: true;
}

export interface Conversation {
  readonly id: string;
  readonly owner: number;
  /** Seconds since the epoch. */
  readonly created: number;
  metadata: Record<string, string>;
  entries: Entry[];
  /**
   * The response whose tokens are those of the first `covered` entries: what comes next goes on from it. null: there is
   * none, or an item was deleted since; all is rendered anew then.
   */
  base: string | null;
  covered: number;
}

export type Change =
  | { op: 'metadata'; metadata: Record<string, string> }
  /** `base`: a response that ends with them. */
  | { op: 'add'; entries: Entry[]; base?: string }
  | { op: 'delete'; id: string };

export function apply(c: Conversation, change: Change): void {
  switch (change.op) {
    case 'metadata':
      c.metadata = change.metadata;
      return;
    case 'add':
      c.entries.push(...change.entries);
      if (change.base === undefined) return;
      c.base = change.base;
      c.covered = c.entries.length;
      return;
    case 'delete': {
      const at = c.entries.findIndex((e) => e.id === change.id);
      if (at < 0) return;
      c.entries.splice(at, 1);
      if (at >= c.covered) return;
      c.base = null;
      c.covered = 0;
    }
  }
}

export const conversationJson = ({ id, created, metadata }: Conversation) => ({
  id,
  object: 'conversation',
  created_at: created,
  metadata,
});

export function entryJson({ id, item, incomplete }: Entry): ItemJson {
  const json = inputJson(item, id);
  return incomplete ? { ...json, status: 'incomplete' } : json;
}

/** Characters that a value takes where it is kept, about. */
export const sizeOf = (value: Change | Entry | Entry[] | Record<string, string>): number =>
  JSON.stringify(value).length;
