/** How memory is divided, claimed while it is taken, and done without when it is gone. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { MemoryPromises } from '../../src/base/memory-promises.js';
import { engineOptions, parseOptions } from '../../src/config.js';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { createNullDevice } from '../../src/device/null/index.js';
import { Core, chunkOf } from '../../src/engine/core.js';
import { splitMemory } from '../../src/engine/memory.js';
import { program as nullProgram, request } from '../support/core.js';
import { openModelFile } from '../support/model-file.js';

const MIB = 2 ** 20;
const model = await openModelFile();
const withoutModel = model === null && 'there is no model here';

const kv = { layers: 2, kvHeads: 2, headDim: 32, blockLen: 64, bits: 16 as const };
const sizes = { weightBytes: 10 * MIB, workspaceBytes: 10 * MIB, kv };

test('what others were promised is taken off before the share, and stands in the arithmetic', () => {
  const size = { kind: 'share' as const, share: 0.8 };
  const alone = splitMemory({ ...sizes, size, room: { free: 120 * MIB, promised: 0 } });
  const beside = splitMemory({ ...sizes, size, room: { free: 120 * MIB, promised: 50 * MIB } });
  assert.equal(alone.kvBytes, 80 * MIB);
  assert.equal(beside.kvBytes, 40 * MIB);
  assert.equal(beside.promisedBytes, 50 * MIB);
  assert.match(beside.arithmetic, /^120 MiB free - 50\.0 MiB promised to other longmind processes - 10\.0 MiB weights/);
  assert.doesNotMatch(alone.arithmetic, /promised/);
});

test('a model that does not fit beside what others were promised is refused with the number', () => {
  const size = { kind: 'share' as const, share: 0.8 };
  for (const promised of [105 * MIB, 130 * MIB])
    assert.throws(() => splitMemory({ ...sizes, size, room: { free: 120 * MIB, promised } }), {
      code: 'not_enough_memory',
      message: /needs 20\.0 MiB, but (15\.0 MiB|0 B) are available; 1[03][05] MiB more are promised to other longmind/,
    });
});

test('by default the machine is asked for memory by and by, a device of its own all at once', () => {
  const config = parseOptions(engineOptions, {});
  const own = createNullDevice();
  const host = { ...own, info: { ...own.info, ownMemory: false } } as typeof own;
  assert.equal(chunkOf(config, own, MIB), -1);
  assert.equal(chunkOf(config, host, MIB), 32);
  assert.equal(chunkOf(config, host, 100 * MIB), 1);
  assert.equal(chunkOf(parseOptions(engineOptions, { cacheChunkSize: '-1' }), host, MIB), -1);
  assert.equal(chunkOf(parseOptions(engineOptions, { cacheChunkSize: 7 }), own, MIB), 7);
  for (const bad of [-2, 'most', 2 ** 31, 1.5])
    assert.throws(() => parseOptions(engineOptions, { cacheChunkSize: bad }), { code: 'invalid_option' });
});

const events = { token: () => {}, finished: () => {}, failed: () => {} };

test('an engine promises what it has not taken yet: less with each piece that it takes, and never more again', (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-claim-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const levels = () => [{ free: 100 * MIB, holds: () => true }];
  const of = (name: string) => new MemoryPromises({ folder: path.join(dir, 'memory'), name, levels });
  const own = createNullDevice();
  const { info } = own;
  // the null device as one that takes the machine's memory
  const device = Object.assign(own, { info: { ...info, ownMemory: false } });
  const config = parseOptions(engineOptions, { cacheChunkSize: 4, cacheMaxEntryCount: 16 });
  const weights = { path: '', tensors: new Map() };
  const data = { program: nullProgram, weights, config, fingerprint: '', modelKey: '' };
  const core = new Core(data, device, events, {}, null, of('mine'));
  const other = of('other');
  const { kvBytes, workspaceBytes, blockBytes } = core.info.memory;
  const promised = () => other.room().promised;
  assert.equal(promised(), kvBytes + workspaceBytes);
  core.batch.submit(request(1, Array(60).fill(5), null));
  while (core.batch.step());
  assert.equal(promised(), kvBytes + workspaceBytes - 4 * blockBytes);
  core.batch.submit(request(2, Array(600).fill(7), null));
  while (core.batch.step());
  assert.equal(promised(), kvBytes + workspaceBytes - 12 * blockBytes);
  // made anew, it has what it had
  core.restart(new Error('broken') as never);
  core.batch.submit(request(3, Array(60).fill(5), null));
  while (core.batch.step());
  assert.equal(promised(), kvBytes + workspaceBytes - 12 * blockBytes);
});

test('memory that is gone at run time: the pool stops growing and evicts, answers are the same, and when memory is back it grows', {
  skip: withoutModel,
}, () => {
  const { program, weights } = model!;
  const run = (memoryFree: () => number) => {
    const config = parseOptions(engineOptions, { cacheMaxEntryCount: '96MiB', cacheChunkSize: 16, speculation: 'off' });
    const device = createCpuDevice({ memoryFree });
    const out: number[] = [];
    const data = { program, weights, config, fingerprint: '', modelKey: '' };
    const core = new Core(data, device, { ...events, token: (_, token) => out.push(token) });
    let id = 0;
    const ask = (seed: number) => {
      const tokens = Array.from({ length: 500 }, (_, i) => 5 + ((i * 31 + seed * 97) % 400));
      core.batch.submit(request(++id, tokens, `s${seed}`));
      while (core.batch.step());
      core.batch.check();
    };
    return { core, ask, out };
  };
  const plenty = run(() => 2 ** 30);
  // a machine of 1 GiB: what this process has taken since is gone, and so is what others take
  const before = process.memoryUsage().rss;
  let taken = 0;
  const little = run(() => 2 ** 30 - taken - Math.max(0, process.memoryUsage().rss - before));
  const ask = (seed: number) => {
    plenty.ask(seed);
    little.ask(seed);
  };
  for (let seed = 0; seed < 4; seed++) ask(seed);
  const grown = () => little.core.cache.stats().blocks.grown;
  const first = grown();
  assert.ok(first >= 32 && first < 64, `${first} blocks`);
  taken = 2 ** 30;
  for (let seed = 4; seed < 24; seed++) ask(seed);
  const evictions = little.core.cache.stats().blocksEvicted;
  assert.equal(grown(), first, 'it took memory that was not there');
  assert.ok(evictions > 100, `${evictions} blocks evicted`);
  for (let seed = 0; seed < 24; seed += 5) ask(seed);
  taken = 0;
  for (let seed = 24; seed < 90; seed++) ask(seed);
  assert.ok(grown() > first, 'it never grew again');
  assert.deepEqual(little.out, plenty.out);
  assert.equal(plenty.core.cache.stats().blocks.grown > first, true);
});
