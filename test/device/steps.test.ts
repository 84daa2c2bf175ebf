/** What a device refuses, how it stops, and what it says about itself. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { kvBytesPerToken, type Step } from '../../src/device/device.js';
import { STEP_COUNTS, STEP_FIELDS } from '../../src/device/step.js';
import { LongmindError } from '../../src/errors.js';
import { Runner, randomModel, sequence, type TestModel } from './support.js';

const model = randomModel({ type: 'Q8_0' });
const code = (expected: string) => (e: unknown) => e instanceof LongmindError && e.code === expected;

/** Changes what a step says of the length, or of the place, of one of its arrays. */
function setLength(step: Step, name: keyof typeof STEP_FIELDS, length: number, offset?: number): void {
  const at = 1 + STEP_COUNTS.length + 2 * Object.keys(STEP_FIELDS).indexOf(name);
  step.header[at + 1] = length;
  if (offset !== undefined) step.header[at] = offset;
}

describe('an invalid step is refused and leaves the device usable', () => {
  const runner = new Runner(model, { maxTokens: 32, maxRows: 2, session: 64, maxLogits: 8 });
  after(() => runner.close());
  const rows = [{ slot: 1, position: 0, tokens: sequence(20, 1) }];
  const good = runner.logits(rows)[0];
  const cases: Record<string, (s: Step) => void> = {
    'token beyond the vocabulary': (s) => s.tokens.fill(300, 3, 4),
    'negative token': (s) => s.tokens.fill(-(2 ** 31), 0, 1),
    'too many tokens': (s) => {
      s.tokenCount = 33;
    },
    'too many rows': (s) => {
      s.rowCount = 3;
    },
    'negative counts': (s) => {
      s.logitCount = -1;
    },
    'rows that do not cover the tokens': (s) => {
      s.rowStart[1] = 19;
    },
    'an empty row': (s) => {
      s.rowStart[0] = 20;
    },
    'a slot out of range': (s) => {
      s.rowSlot[0] = 2;
    },
    'positions that jump': (s) => {
      s.positions[5] = 7;
    },
    'positions beyond the session': (s) => {
      for (let t = 0; t < 20; t++) s.positions[t] = 50 + t;
    },
    'a negative position': (s) => {
      for (let t = 0; t < 20; t++) s.positions[t] = t - 1;
    },
    'a block that was not grown': (s) => {
      s.blockTables[4 + 1] = 8;
    },
    'a negative block': (s) => {
      s.blockTables[4] = -1;
    },
    'a logit row beyond the tokens': (s) => {
      s.logitRows[0] = 20;
    },
    'a copy out of range': (s) => {
      s.copyCount = 1;
      s.copies.set([0, 99, 16]);
    },
    'a history token out of range': (s) => {
      s.historyStart[1] = 1;
      s.historyTokens[0] = 300;
    },
    'a history that runs backwards': (s) => {
      s.historyStart[0] = 2;
    },
    'a history longer than its array': (s) => {
      s.historyStart[1] = 5000;
    },
    'a biased token out of range': (s) => {
      s.biasStart[1] = 1;
      s.biasTokens[0] = -3;
    },
    'a mask row out of range': (s) => {
      s.maskRow[0] = 1;
    },
    'a NaN temperature': (s) => {
      s.temperature[0] = Number.NaN;
    },
    'arrays that are too short': (s) => setLength(s, 'tokens', 4),
    'a block table that is too short': (s) => setLength(s, 'blockTables', 7),
    'a sampling array that is too short': (s) => setLength(s, 'frequencyPenalty', 0),
    'an array of negative length': (s) => setLength(s, 'masks', -1),
    'an array beyond the end of the buffer': (s) => setLength(s, 'masks', 1, s.bytes.length / 4),
    'an array before the buffer': (s) => setLength(s, 'tokens', 32, -16),
    'an array longer than memory': (s) => setLength(s, 'historyTokens', 2 ** 31 - 1),
    'a reference to a row that was not there': (s) => s.tokens.fill(-2, 0, 1),
    'the buffer of another layout': (s) => {
      s.header[0]++;
    },
    'unordered logit rows': (s) => {
      s.logitCount = 2;
      s.logitRows.set([19, 18]);
    },
  };
  for (const [name, spoil] of Object.entries(cases)) {
    it(name, () => {
      const step = runner.fill(rows);
      const kept = step.bytes.slice();
      spoil(step);
      assert.throws(() => runner.device.submit(step), code('native_error'));
      step.bytes.set(kept);
      assert.deepEqual(runner.logits(rows)[0], good);
    });
  }
});

describe('block copies', () => {
  for (const bits of [16, 8, 4] as const) {
    it(`a fork that copies a partial block goes on as the original would, KV in ${bits} bits`, () => {
      const runner = new Runner(model, { bits, blockLen: 32, session: 96, maxRows: 2 });
      const start = sequence(45, 3);
      const next = sequence(9, 4);
      runner.run([{ slot: 0, position: 0, tokens: start, logits: 'none' }]);
      const want = runner.logits([{ slot: 0, position: 45, tokens: next, logits: 'all' }]);
      // slot 1 shares block 0 of slot 0 and gets a copy of the first 13 tokens of block 1
      const step = runner.fill([{ slot: 1, position: 45, tokens: next, logits: 'all' }]);
      step.blockTables[3] = 0;
      step.copyCount = 1;
      step.copies.set([1, 4, 13]);
      runner.device.wait(runner.device.submit(step));
      for (const [i, x] of want.entries()) assert.deepEqual(runner.device.logits(i), x);
      runner.close();
    });
  }
});

describe('cancel', () => {
  it('the flag of another thread stops a step; the next step runs', async () => {
    const big = randomModel({ type: 'Q8_0', heads: 8, headDim: 64, ffDim: 1024, layers: 12 });
    const runner = new Runner(big, { maxTokens: 512, session: 512, maxRows: 1 });
    const rows = [{ slot: 0, position: 0, tokens: sequence(512, 1) }];
    const want = runner.logits(rows)[0];
    // submit clears the flag, so another thread sets it again and again until the step has stopped
    const go = new Int32Array(new SharedArrayBuffer(4));
    const hammer = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       parentPort.postMessage('ready');
       while (Atomics.load(workerData.go, 0) === 0) Atomics.store(workerData.cancel, 0, 1);`,
      { eval: true, workerData: { cancel: runner.device.cancel, go } },
    );
    await new Promise((resolve) => hammer.once('message', resolve));
    assert.equal(runner.run(rows).completed, false);
    Atomics.store(go, 0, 1);
    await new Promise((resolve) => hammer.once('exit', resolve));
    const result = runner.run(rows);
    assert.equal(result.completed, true);
    assert.deepEqual(runner.device.logits(0), want);
    runner.close();
  });
});

describe('loading', () => {
  const load = (m: TestModel, change: (m: TestModel) => void) => {
    const copy = { ...m, source: { path: m.source.path, tensors: new Map(m.source.tensors) } };
    change(copy);
    return () => new Runner(copy).close();
  };
  const name = 'blk.0.attn_q.weight';
  const edit = (m: TestModel, fields: object) => {
    (m.source.tensors as Map<string, unknown>).set(name, { ...m.source.tensors.get(name)!, ...fields });
  };
  it('a missing file', () =>
    assert.throws(
      load(model, (m) => {
        m.source = { ...m.source, path: '/nonexistent/model.gguf' };
      }),
      code('file_missing'),
    ));
  it('a missing tensor', () =>
    assert.throws(
      load(model, (m) => {
        (m.source.tensors as Map<string, unknown>).delete(name);
      }),
      code('bad_gguf'),
    ));
  it('a tensor type that is not supported', () =>
    assert.throws(
      load(model, (m) => edit(m, { type: 'IQ2_XXS' })),
      code('unsupported_tensor_type'),
    ));
  it('a tensor beyond the end of the file', () =>
    assert.throws(
      load(model, (m) => edit(m, { offset: 2 ** 40 })),
      code('bad_gguf'),
    ));
  it('a tensor shorter than its shape says', () =>
    assert.throws(
      load(model, (m) => edit(m, { byteLength: 100 })),
      code('bad_gguf'),
    ));
  it('a tensor of another shape', () =>
    assert.throws(
      load(model, (m) => edit(m, { shape: [64, 128] })),
      code('bad_gguf'),
    ));

  it('memory is as announced, and progress ends at the total', () => {
    const device = createCpuDevice();
    const { dims } = model.program;
    const limits = { maxTokens: 64, maxRows: 4, maxBlocksPerRow: 4, maxLogits: 8, vocab: dims.vocab };
    const kv = { layers: 2, kvHeads: 2, headDim: 32, blockLen: 16, bits: 16 as const };
    const seen: [number, number][] = [];
    const announced = device.weightBytes(model.program, model.source);
    const memory = device.load(model.program, model.source, {
      limits,
      kv,
      maxBlocks: 16,
      onProgress: (done, total) => seen.push([done, total]),
    });
    assert.equal(memory.weightBytes, announced);
    assert.equal(memory.workspaceBytes, device.workspaceBytes(model.program, limits));
    const file = [...model.source.tensors.values()].reduce((n, t) => n + t.byteLength, 0);
    assert.deepEqual(seen.at(-1), [file, file]);
    assert.ok(device.info.memoryFree > 0);
    assert.equal(device.growKv(17), false);
    assert.equal(device.growKv(16), true);
    device.close();
  });

  it('an enormous KV cache only reserves address space', () => {
    const before = process.memoryUsage().rss;
    const { dims } = model.program;
    const kv = { layers: 2, kvHeads: 2, headDim: 32, blockLen: 64, bits: 16 as const };
    const maxBlocks = Math.floor(2 ** 38 / (kvBytesPerToken(kv) * 64));
    const device = createCpuDevice();
    const limits = { maxTokens: 16, maxRows: 2, maxBlocksPerRow: 4, maxLogits: 2, vocab: dims.vocab };
    device.load(model.program, model.source, { limits, kv, maxBlocks });
    assert.equal(device.growKv(maxBlocks), false); // more than the machine has
    assert.ok(process.memoryUsage().rss - before < 64 << 20);
    device.close();
  });

  it('KV grows only while a reserve stays free, and what was grown is had', {
    skip: process.env.EMULATED ? 'qemu-user passes on no request to have pages at once' : false,
  }, () => {
    let free = 2 ** 30;
    const { dims } = model.program;
    const kv = { layers: 2, kvHeads: 2, headDim: 32, blockLen: 64, bits: 16 as const };
    const blockBytes = kvBytesPerToken(kv) * 64;
    const device = createCpuDevice({ memoryFree: () => free });
    const limits = { maxTokens: 16, maxRows: 2, maxBlocksPerRow: 4, maxLogits: 2, vocab: dims.vocab };
    device.load(model.program, model.source, { limits, kv, maxBlocks: 10_000 });
    const reserve = 0.1 * free;
    const before = process.memoryUsage().rss;
    assert.equal(device.growKv(2000), true);
    assert.ok(process.memoryUsage().rss - before > 0.9 * 2000 * blockBytes, 'its pages come with later steps');
    free = reserve + 100 * blockBytes - 1;
    assert.equal(device.growKv(2100), false);
    assert.equal(device.growKv(2099), true);
    free = 0;
    assert.equal(device.growKv(2099), true);
    assert.equal(device.growKv(2100), false);
    free = 2 ** 30;
    assert.equal(device.growKv(2100), true);
    device.close();
  });

  it('options out of range are typed errors', () => {
    assert.throws(() => createCpuDevice({ threads: 0 }), code('invalid_option'));
    assert.throws(() => createCpuDevice({ library: '/nonexistent.so' }), code('native_unavailable'));
    const other = path.join(path.dirname(model.source.path), 'not-a-library.so');
    fs.writeFileSync(other, 'text');
    assert.throws(() => createCpuDevice({ library: other }), code('native_unavailable'));
  });
});
