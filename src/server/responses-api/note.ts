/**
 * What is kept of a response beside its token ids. Texts that stand in the prompt as they were sent are kept as places in
 * it, counted from its end: a few bytes instead of the text.
 */
import type { ToolSpec } from '../../index.js';
import type { Item } from './items.js';

/** Characters before the end of the turn's prompt, and how many of them; or the text itself. */
type Text = string | [fromEnd: number, length: number];

type StoredItem =
  | ['m', string, ...Text[]]
  | ['c', callId: string, name: string, args: Text]
  | ['o', callId: string, Text]
  | ['r', Text];

interface StoredNote {
  /** Of the response. */
  id: string;
  created: number;
  model: string;
  previous?: string;
  conversation?: string;
  /** Fields that were given, to be shown again. */
  given: Record<string, unknown>;
  items: StoredItem[];
}

export interface Note extends Omit<StoredNote, 'items'> {
  items: Item[];
}

/** Shorter texts are kept as they are. */
const SHORT = 16;
/** Texts that the template changed are looked for in vain: so many times the length of the prompt may be read for that. */
const VAIN = 8;

/** `prompt`: the text of the turn's own tokens, special tokens spelled out. */
export function writeNote({ items, ...rest }: Note, prompt: string): string {
  let at = 0;
  let vain = VAIN * prompt.length;
  const place = (text: string): Text => {
    if (text.length < SHORT || vain <= 0) return text;
    const found = prompt.indexOf(text, at);
    if (found < 0) {
      vain -= prompt.length - at;
      return text;
    }
    at = found + text.length;
    return [prompt.length - found, text.length];
  };
  const stored = items.map((item): StoredItem => {
    if (item.kind === 'message') return ['m', item.role, ...item.texts.map(place)];
    if (item.kind === 'call') return ['c', item.callId, item.name, place(item.arguments)];
    if (item.kind === 'reasoning') return ['r', place(item.text)];
    return ['o', item.callId, place(item.output)];
  });
  return JSON.stringify({ ...rest, items: stored } satisfies StoredNote);
}

/** null: kept by somebody else. */
export function readNote(note: string, prompt: () => string): Note | null {
  let text: string | null = null;
  const read = (t: Text): string => {
    if (typeof t === 'string') return t;
    text ??= prompt();
    const from = text.length - t[0];
    return text.slice(from, from + t[1]);
  };
  try {
    const { items, ...rest } = JSON.parse(note) as StoredNote;
    return { ...rest, items: items.map((s) => readStored(s, read)) };
  } catch {
    return null;
  }
}

function readStored(stored: StoredItem, read: (t: Text) => string): Item {
  if (stored[0] === 'c') return { kind: 'call', callId: stored[1], name: stored[2], arguments: read(stored[3]) };
  if (stored[0] === 'o') return { kind: 'result', callId: stored[1], output: read(stored[2]) };
  if (stored[0] === 'r') return { kind: 'reasoning', text: read(stored[1]) };
  const [, role, ...texts] = stored;
  return { kind: 'message', role: role as 'user', texts: texts.map(read) };
}

/** What stands before the first message: the same from turn to turn, so it is kept once a conversation. */
export interface Head {
  instructions: string | null;
  tools: ToolSpec[];
  /** The model heard of the tools. */
  told: boolean;
  /** The adapter that the conversation is with. */
  adapter: string | null;
}

export const writeHead = (head: Head): string => {
  const { instructions, tools, told, adapter } = head;
  return JSON.stringify([instructions, tools, told ? 1 : 0, ...(adapter === null ? [] : [adapter])]);
};

export function readHead(text: string): Head {
  const [instructions, tools, told, adapter = null] = JSON.parse(text) as [string | null, ToolSpec[], number, string?];
  return { instructions, tools, told: told === 1, adapter };
}
