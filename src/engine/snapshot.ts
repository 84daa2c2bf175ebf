/** The engine at one moment, for a dashboard: the block map, the sequences, the batch. */
import type { CacheManager } from '../cache/types.js';
import type { EngineSnapshot, EngineStats } from '../types.js';
import type { PersistentBatch } from './batch.js';

const MAX_SEQUENCES = 1000;

export function takeSnapshot(batch: PersistentBatch, cache: CacheManager, stats: EngineStats): EngineSnapshot {
  const { running, waiting } = batch.view();
  const blocks = cache.snapshot();
  const sequences = new Map<number, EngineSnapshot['sequences'][number]>();
  const add = (sequence: number, sessionId: string | null, owner: number) => {
    if (sequences.size >= MAX_SEQUENCES || !cache.exists(sequence)) return;
    const [known, computed] = [cache.known(sequence), cache.computed(sequence)];
    sequences.set(sequence, { sequence, sessionId, owner, state: cache.state(sequence), known, computed });
  };
  for (const r of [...running, ...waiting]) add(r.sequence, r.request.sessionId, r.request.owner);
  for (const s of batch.sessions.all()) add(s.sequence, s.id, s.owner);
  return {
    step: batch.counters.steps,
    ...blocks,
    sequences: [...sequences.values()],
    batch: running.map((r) => ({
      slot: r.slot,
      sequence: r.sequence,
      request: r.request.id,
      known: r.known,
      computed: r.computed,
      generated: r.generated,
    })),
    waiting: waiting
      .filter((r) => cache.exists(r.sequence))
      .map((r) => ({ sequence: r.sequence, request: r.request.id, known: r.known, computed: r.computed })),
    stats,
  };
}
