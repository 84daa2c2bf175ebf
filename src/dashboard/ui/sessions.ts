/** Names and colours of sequences: the same in the chat list, the block map and everywhere else. */
import { chats } from '../chat/chats.js';
import { sessionsOf } from '../chat/model.js';
import type { Sequence } from '../live/picture.js';
import { theme } from './theme.js';

/** Degrees between the hues of two sessions that follow each other: the golden angle keeps any number of them apart. */
const GOLDEN = 137.508;
const FIRST_HUE = 65;
const hues = new Map<string, number>();

const keyOf = (number: number, sessionId: string | null): string => sessionId ?? `#${number}`;

/** After so many the hues come close to earlier ones again: lightness tells those apart. */
const CYCLE = 8;
const SHADES = [0, -0.13, 0.07];

function numberOf(key: string): number {
  let n = hues.get(key);
  if (n === undefined) {
    n = hues.size;
    hues.set(key, n);
  }
  return n;
}

/** Full strength for what is active, paler for what is only cached. */
export function colourOf(number: number, sessionId: string | null, strength: 'full' | 'pale' = 'full'): string {
  const dark = theme.value === 'dark';
  const n = numberOf(keyOf(number, sessionId));
  const hue = ((FIRST_HUE + n * GOLDEN) % 360).toFixed(1);
  const shade = SHADES[Math.floor(n / CYCLE) % SHADES.length] as number;
  const [light, chroma] =
    strength === 'full' ? (dark ? [0.78, 0.145] : [0.64, 0.165]) : dark ? [0.52, 0.095] : [0.83, 0.09];
  return `oklch(${(light + shade).toFixed(2)} ${chroma} ${hue})`;
}

export const sessionColour = (sessionId: string): string => colourOf(-1, sessionId);

/** What people call it. */
export function labelOf(q: Pick<Sequence, 'number' | 'sessionId' | 'ours'>): string {
  if (q.sessionId === null) return q.ours ? 'a request without session' : "another key's session";
  const chat = chats.value.all.find((c) => sessionsOf(c).includes(q.sessionId as string));
  if (!chat) return q.sessionId;
  const first = chat.resumed?.session ?? chat.id;
  return q.sessionId === first ? chat.title : `${chat.title} (branch ${q.sessionId.slice(chat.id.length + 1)})`;
}
