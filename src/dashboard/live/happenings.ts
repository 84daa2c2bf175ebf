/**
 * What happened between two pictures, read off the engine's counters, with the sequences whose tokens changed. Nothing is
 * guessed: a line appears only when its counter moved.
 */
import type { Picture, Sequence } from './picture.js';

export type Kind = 'hit' | 'partial' | 'miss' | 'evict' | 'recompute' | 'preempt' | 'fork' | 'drop' | 'fail';

export interface Happening {
  /** Ascending. */
  id: number;
  at: number;
  kind: Kind;
  /** Blocks, conversations or sequences, as the kind has it. */
  count: number;
  tokens: number;
  /** Sequences it concerns and by how many tokens, where that can be told. */
  who: { number: number; sessionId: string | null; ours: boolean; tokens: number }[];
}

type Found = Omit<Happening, 'id' | 'at'>;

const plural = (n: number, one: string): string => `${n.toLocaleString('en')} ${one}${n === 1 ? '' : 's'}`;

/** In words, with the numbers. */
export function wordsOf({ kind, count, tokens }: Pick<Happening, 'kind' | 'count' | 'tokens'>): string {
  const back = `${plural(count, 'conversation')} came back`;
  switch (kind) {
    case 'hit':
      return `${back}: all of it still cached (${plural(tokens, 'token')} reused)`;
    case 'partial':
      return `${back}: a part still cached`;
    case 'miss':
      return `${back}: its KV was gone, its token ids were not`;
    case 'evict':
      return `${plural(count, 'block')} evicted, ${plural(tokens, 'token')} of KV`;
    case 'recompute':
      return `${plural(tokens, 'token')} computed again from their ids`;
    case 'preempt':
      return `${plural(count, 'sequence')} gave way and will resume`;
    case 'fork':
      return `${plural(count, 'fork')}: blocks are shared`;
    case 'drop':
      return `${plural(count, 'kept sequence')} forgotten`;
    case 'fail':
      return `${plural(count, 'request')} failed`;
  }
}

/** Happenings in the order in which they read best: what was lost, what was found, what is done about it. */
export function happenings(before: Picture, after: Picture, nextId: number): Happening[] {
  const [was, is] = [before.stats, after.stats];
  const grew = (pick: (s: Picture['stats']) => number): number => Math.max(0, pick(is) - pick(was));
  const found: Found[] = [];
  const add = (kind: Kind, count: number, tokens: number, who: Happening['who']) => {
    if (count > 0) found.push({ kind, count, tokens, who });
  };
  const evicted = grew((s) => s.cache.blocksEvicted);
  add(
    'evict',
    evicted,
    grew((s) => s.cache.tokensEvicted),
    losers(before, after),
  );
  const [hits, partial, misses] = [
    grew((s) => s.cache.hits),
    grew((s) => s.cache.partialHits),
    grew((s) => s.cache.misses),
  ];
  const joined = joiners(before, after);
  // who came back can be told apart only while all of them met the same luck
  const sure = (n: number): Happening['who'] => (n === hits + partial + misses ? joined : []);
  add(
    'hit',
    hits,
    grew((s) => s.cache.tokensReused),
    sure(hits),
  );
  add('partial', partial, 0, sure(partial));
  add('miss', misses, 0, sure(misses));
  const recomputed = grew((s) => s.cache.tokensRecomputed);
  add('recompute', recomputed, recomputed, catchingUp(before, after));
  add(
    'preempt',
    grew((s) => s.preemptions),
    0,
    [],
  );
  add(
    'fork',
    grew((s) => s.cache.forks),
    0,
    newcomers(before, after),
  );
  add(
    'drop',
    grew((s) => s.cache.sequencesDropped),
    0,
    [],
  );
  add(
    'fail',
    grew((s) => s.requests.failed),
    0,
    [],
  );
  return found.map((f, i) => ({ id: nextId + i, at: after.at, ...f }));
}

/** Evictions and recomputes go on for many pictures: within this time they are added to the line that tells of them. */
const TOGETHER_MS = 3_000;
const TOGETHER: ReadonlySet<Kind> = new Set(['evict', 'recompute']);

/** Newest first: `fresh` (oldest first) joined to what is told already. */
export function tell(told: readonly Happening[], fresh: readonly Happening[], most: number): Happening[] {
  const out = [...told];
  for (const h of fresh) {
    const i = TOGETHER.has(h.kind) ? out.findIndex((o) => o.kind === h.kind) : -1;
    const old = out[i];
    if (old && h.at - old.at < TOGETHER_MS) out[i] = joined(old, h);
    else out.unshift(h);
  }
  return out.slice(0, most);
}

/** Keeps the first one's time, so that a line does not grow for ever. */
function joined(a: Happening, b: Happening): Happening {
  const who = new Map(a.who.map((w) => [`${w.number} ${w.sessionId}`, w]));
  for (const w of b.who) {
    const key = `${w.number} ${w.sessionId}`;
    who.set(key, { ...w, tokens: w.tokens + (who.get(key)?.tokens ?? 0) });
  }
  return { ...a, count: a.count + b.count, tokens: a.tokens + b.tokens, who: [...who.values()] };
}

const who = (q: Sequence, tokens: number): Happening['who'][number] => ({
  number: q.number,
  sessionId: q.sessionId,
  ours: q.ours,
  tokens,
});

const sameOne = (a: Sequence | undefined, b: Sequence): a is Sequence => a !== undefined && a.sessionId === b.sessionId;

/** Known tokens as before or more, computed ones fewer. */
function losers(before: Picture, after: Picture): Happening['who'] {
  return pairs(before, after)
    .filter(([a, b]) => b.computed < a.computed && b.known >= a.known)
    .map(([a, b]) => who(b, b.computed - a.computed));
}

/** In the batch, or waiting, since the picture before. */
function joiners(before: Picture, after: Picture): Happening['who'] {
  const old = new Set(before.batch.map((r) => r.request));
  return after.batch
    .filter((r) => !old.has(r.request))
    .flatMap((r) => {
      const q = after.sequences.get(r.sequence);
      return q?.sessionId ? [who(q, q.known)] : [];
    });
}

/** In the batch with tokens that an earlier picture knew already and that were computed just now. */
function catchingUp(before: Picture, after: Picture): Happening['who'] {
  return pairs(before, after)
    .filter(([a, b]) => b.computed > a.computed && a.computed < a.known - 1)
    .map(([a, b]) => who(b, b.computed - a.computed));
}

function newcomers(before: Picture, after: Picture): Happening['who'] {
  return [...after.sequences.values()]
    .filter((q) => q.sessionId !== null && !sameOne(before.sequences.get(q.number), q))
    .map((q) => who(q, q.known));
}

function pairs(before: Picture, after: Picture): [Sequence, Sequence][] {
  return [...after.sequences.values()].flatMap((b): [Sequence, Sequence][] => {
    const a = before.sequences.get(b.number);
    return sameOne(a, b) ? [[a, b]] : [];
  });
}
