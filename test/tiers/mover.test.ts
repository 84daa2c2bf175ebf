import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TierOperations, TransferOrder } from '../../src/cache/types.js';
import { createNullDevice } from '../../src/device/null/index.js';
import { type Disk, Mover, TierMemory } from '../../src/tiers/mover.js';

test('what the disk still writes of a cache manager that is gone is what it was told to write', () => {
  const device = createNullDevice();
  const kv = { layers: 1, kvHeads: 1, headDim: 16, blockLen: 16, bits: 16 as const };
  const dims = { layers: 1, dim: 16, heads: 1, kvHeads: 1, headDim: 16, ffDim: 16, vocab: 100, contextLength: 64 };
  const limits = { maxTokens: 16, maxRows: 1, maxBlocksPerRow: 4, maxLogits: 1, vocab: 100 };
  const source = { path: '', tensors: new Map() };
  device.load({ dims, buffers: [], ops: [] }, source, { limits, kv, maxBlocks: 4 });
  const memory = new TierMemory(device.kv, 2, true);
  memory.host[1]!.fill(7);

  const orders: TransferOrder[] = [{ id: 1, kind: 'demote', node: 0, block: -1, host: 1, disk: 3 }];
  const ended: number[] = [];
  const cache: Partial<TierOperations> = {
    takeOrders: (out) => {
      const [order] = orders.splice(0, 1);
      if (order) out[0] = order;
      return order ? 1 : 0;
    },
    prefixTokens: () => 16,
    namespaceOf: () => -1,
    orderDone: (id) => void ended.push(id),
  };
  const written: { kv: Uint8Array; done: () => void }[] = [];
  const disk: Disk = {
    writable: true,
    poll: () => {},
    read: () => {},
    erase: () => {},
    write: (_slot, _namespace, _prefix, kv, done) =>
      void written.push({ kv, done: () => done({ id: 0, ok: true, ms: 1, error: null }) }),
  };
  const mover = new Mover(cache as TierOperations, { kv: device.kv, sessionLen: 64, memory, disk });
  mover.pump();
  mover.retire();
  // the next cache manager saves another text there
  memory.host[1]!.fill(9);
  const [write] = written;
  assert.ok(write!.kv.every((b) => b === 7));
  write!.done();
  assert.deepEqual(ended, [], 'the manager that is gone was told');
  assert.equal(memory.host[0]!.length, memory.host[1]!.length);
  device.close();
});
