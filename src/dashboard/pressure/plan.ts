/** How many conversations of what length fill a cache, and what they say. Pure. */

interface Capacity {
  /** Tokens the KV cache holds. */
  cache: number;
  /** Tokens the longest session may have. */
  session: number;
}

export interface Plan {
  sessions: number;
  /** Tokens of each prompt, about. */
  tokens: number;
  /** Whether they are more than the cache holds; if not, nothing will be evicted. */
  fills: boolean;
}

const ANSWER = 24;
/** Left for the chat template, the answers and a second turn. */
const MARGIN = 3 * ANSWER + 64;
const MOST_TOKENS = 1_200;
const LEAST_TOKENS = 24;
const MOST_SESSIONS = 24;
const LEAST_SESSIONS = 4;
/** More than the cache holds by this much: everything older than that is pushed out. */
const OVER = 1.35;

export const ANSWER_TOKENS = ANSWER;

export function planFor({ cache, session }: Capacity): Plan {
  const room = Math.max(LEAST_TOKENS, Math.min(session - MARGIN, cache - MARGIN));
  const tokens = Math.max(LEAST_TOKENS, Math.min(room, MOST_TOKENS, Math.floor(cache / 6)));
  const wanted = Math.ceil((OVER * cache) / tokens);
  const sessions = Math.max(LEAST_SESSIONS, Math.min(MOST_SESSIONS, wanted));
  const fills = sessions * tokens >= 1.05 * cache;
  return { sessions: fills ? sessions : LEAST_SESSIONS * 2, tokens, fills };
}

const NAMES = [
  'Ada',
  'Bruno',
  'Chiara',
  'Dmitri',
  'Esther',
  'Farid',
  'Greta',
  'Hiro',
  'Ines',
  'Jonas',
  'Kavya',
  'Lars',
];
const PLACES = [
  'the harbour',
  'an old library',
  'the night train',
  'a mountain hut',
  'the market hall',
  'a lighthouse',
];
const VERBS = ['found', 'lost', 'repaired', 'hid', 'painted', 'remembered', 'sold', 'carried'];
const THINGS = [
  'a brass key',
  'a letter',
  'three lemons',
  'a broken clock',
  'the last map',
  'a blue coat',
  'a radio',
  'a small boat',
];
const WHEN = ['in the morning', 'at noon', 'after the rain', 'late at night', 'on a Sunday', 'before the storm'];

/** mulberry32. */
function random(seed: number): (below: number) => number {
  let a = seed >>> 0;
  return (below) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** A story of about so many words that begins unlike any other: no beginning is shared, every one needs blocks of its own. */
export function story(seed: number, words: number): string {
  const pick = random(seed);
  const of = (list: string[]): string => list[pick(list.length)] as string;
  const out: string[] = [`Notebook ${seed}.`];
  let count = 2;
  while (count < words) {
    const sentence = `${of(NAMES)} ${of(VERBS)} ${of(THINGS)} near ${of(PLACES)} ${of(WHEN)}.`;
    out.push(sentence);
    count += sentence.split(' ').length;
  }
  return out.join(' ');
}
