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
  /** In words, with the numbers. */
  text: string;
  /** Sequences it concerns and by how many tokens, where that can be told. */
  who: { slot: number; sessionId: string | null; ours: boolean; tokens: number }[];
}

type Found = Omit<Happening, 'id' | 'at'>;

const count = (n: number, one: string): string => `${n.toLocaleString('en')} ${one}${n === 1 ? '' : 's'}`;

/** Happenings in the order in which they read best: what was lost, what was found, what is done about it. */
export function happenings(before: Picture, after: Picture, nextId: number): Happening[] {
  const [was, is] = [before.stats, after.stats];
  const grew = (pick: (s: Picture['stats']) => number): number => Math.max(0, pick(is) - pick(was));
  const found: Found[] = [];
  const add = (kind: Kind, text: string, who: Happening['who']) => found.push({ kind, text, who });

  const evicted = grew((s) => s.cache.blocksEvicted);
  if (evicted > 0) {
    const lost = grew((s) => s.cache.tokensEvicted);
    add('evict', `${count(evicted, 'block')} evicted, ${count(lost, 'token')} of KV`, losers(before, after));
  }
  const joined = joiners(before, after);
  lookups(add, grew, joined);
  const recomputed = grew((s) => s.cache.tokensRecomputed);
  if (recomputed > 0)
    add('recompute', `${count(recomputed, 'token')} computed again from their ids`, catchingUp(before, after));
  const preempted = grew((s) => s.preemptions);
  if (preempted > 0) add('preempt', `${count(preempted, 'sequence')} gave way and will resume`, []);
  const forks = grew((s) => s.cache.forks);
  if (forks > 0) add('fork', `${count(forks, 'fork')}: blocks are shared`, newcomers(before, after));
  const dropped = grew((s) => s.cache.sequencesDropped);
  if (dropped > 0) add('drop', `${count(dropped, 'kept sequence')} forgotten`, []);
  const failed = grew((s) => s.requests.failed);
  if (failed > 0) add('fail', `${count(failed, 'request')} failed`, []);
  return found.map((f, i) => ({ id: nextId + i, at: after.at, ...f }));
}

function lookups(
  add: (kind: Kind, text: string, who: Happening['who']) => void,
  grew: (pick: (s: Picture['stats']) => number) => number,
  joined: Happening['who'],
): void {
  const hits = grew((s) => s.cache.hits);
  const partial = grew((s) => s.cache.partialHits);
  const misses = grew((s) => s.cache.misses);
  const reused = grew((s) => s.cache.tokensReused);
  const back = (n: number): string => `${count(n, 'conversation')} came back`;
  // who came back can be told apart only while all of them met the same luck
  const sure = (n: number): Happening['who'] => (n === hits + partial + misses ? joined : []);
  if (hits > 0) add('hit', `${back(hits)}: all of it still cached (${count(reused, 'token')} reused)`, sure(hits));
  if (partial > 0) add('partial', `${back(partial)}: a part still cached`, sure(partial));
  if (misses > 0) add('miss', `${back(misses)}: its KV was gone, its token ids were not`, sure(misses));
}

const who = (q: Sequence, tokens: number): Happening['who'][number] => ({
  slot: q.slot,
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
    .filter((q) => q.sessionId !== null && !sameOne(before.sequences.get(q.slot), q))
    .map((q) => who(q, q.known));
}

function pairs(before: Picture, after: Picture): [Sequence, Sequence][] {
  return [...after.sequences.values()].flatMap((b): [Sequence, Sequence][] => {
    const a = before.sequences.get(b.slot);
    return sameOne(a, b) ? [[a, b]] : [];
  });
}
