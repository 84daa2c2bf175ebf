/** Names and colours of sequences: the same in the chat list, the block map and everywhere else. */
import { chats } from '../chat/chats.js';
import { sessionsOf } from '../chat/model.js';
import type { Sequence } from '../live/picture.js';
import { theme } from './theme.js';

/** Degrees between the hues of two sessions that follow each other: the golden angle keeps any number of them apart. */
const GOLDEN = 137.508;
const FIRST_HUE = 65;
const hues = new Map<string, number>();

const keyOf = (slot: number, sessionId: string | null): string => sessionId ?? `#${slot}`;

function hueOf(key: string): number {
  let n = hues.get(key);
  if (n === undefined) {
    n = hues.size;
    hues.set(key, n);
  }
  return (FIRST_HUE + n * GOLDEN) % 360;
}

/** Full strength for what is active, paler for what is only cached. */
export function colourOf(slot: number, sessionId: string | null, strength: 'full' | 'pale' = 'full'): string {
  const dark = theme.value === 'dark';
  const hue = hueOf(keyOf(slot, sessionId)).toFixed(1);
  if (strength === 'full') return dark ? `oklch(0.78 0.145 ${hue})` : `oklch(0.64 0.165 ${hue})`;
  return dark ? `oklch(0.52 0.095 ${hue})` : `oklch(0.83 0.09 ${hue})`;
}

export const sessionColour = (sessionId: string): string => colourOf(-1, sessionId);

/** What people call it. */
export function labelOf(q: Pick<Sequence, 'slot' | 'sessionId' | 'ours'>): string {
  if (q.sessionId === null) return q.ours ? 'a request without session' : "another key's session";
  const chat = chats.value.all.find((c) => sessionsOf(c).includes(q.sessionId as string));
  if (!chat) return q.sessionId;
  return q.sessionId === chat.id ? chat.title : `${chat.title} (branch ${q.sessionId.slice(chat.id.length + 1)})`;
}
