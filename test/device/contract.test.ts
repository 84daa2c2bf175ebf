/** What every device keeps to: references to drawn tokens, several logits a row, KV in and out, tickets. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { DelayedDevice } from '../../src/bench/delayed-device.js';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { createCudaDevice } from '../../src/device/cuda/index.js';
import { type Device, STEP_LAYOUT, type Step } from '../../src/device/device.js';
import { createNullDevice } from '../../src/device/null/index.js';
import { ReferenceDevice } from '../reference/device.js';
import { cudaHere } from './cuda/here.js';
import { Runner, randomModel, sequence, testLibrary } from './support.js';

const library = testLibrary();

const model = randomModel({ type: 'F32', layers: 2, vocab: 120 });
const VOCAB = 120;
const devices: Record<string, () => Device> = {
  cpu: () => createCpuDevice({ threads: 2, library }),
  'cpu, operation by operation': () => createCpuDevice({ threads: 1, library }),
  'cpu, late, two steps in flight': () => new DelayedDevice(createCpuDevice({ threads: 2, library }), 2),
  null: () => createNullDevice(),
  'null, two steps in flight': () => createNullDevice({ depth: 2 }),
  reference: () => new ReferenceDevice(),
  ...(cudaHere ? { cuda: () => createCudaDevice() } : {}),
};

const prompt = sequence(21, 5, VOCAB);
const hot = (s: Step) => {
  for (let i = 0; i < s.logitCount; i++) {
    s.temperature[i] = 1;
    s.seed[2 * i] = 9;
  }
  return s;
};

for (const [name, open] of Object.entries(devices)) {
  describe(`${name}: the device's contract`, () => {
    const runner = new Runner(model, {
      device: open(),
      session: 64,
      maxTokens: 64,
      maxRows: 3,
      maxLogits: 64,
      debug: name.includes('operation'),
    });
    const { device } = runner;
    after(() => runner.close());
    const prefill = (slot: number) => runner.fill([{ slot, position: 0, tokens: prompt, logits: 'last' }]);

    it('a token may be what a logit row of the step before draws', () => {
      const known: number[] = [];
      let token = device.wait(device.submit(hot(prefill(0)))).tokens[0];
      for (let p = 21; p < 30; p++) {
        known.push(token);
        token = device.wait(device.submit(hot(runner.fill([{ slot: 0, position: p, tokens: [token] }])))).tokens[0];
      }
      // the same with references, a second sequence beside it whose logit row comes first
      const other = { slot: 2, position: 0, tokens: prompt.slice(0, 4) };
      const first = runner.fill([other, { slot: 1, position: 0, tokens: prompt }]);
      const drawn = [device.wait(device.submit(hot(first))).tokens[1]];
      for (let p = 21; p < 29; p++) {
        const rows = [
          { slot: 2, position: p - 17, tokens: [-1] },
          { slot: 1, position: p, tokens: [-2] },
        ];
        drawn.push(device.wait(device.submit(hot(runner.fill(rows)))).tokens[1]);
      }
      assert.deepEqual(drawn, known);
    });

    it('a reference to a row that the step before did not have is refused', () => {
      device.wait(device.submit(prefill(0)));
      const step = runner.fill([{ slot: 0, position: 21, tokens: [-2] }]);
      assert.throws(
        () => device.wait(device.submit(step)),
        /refers to a row that drew nothing|invalid step: a token id/,
      );
      device.wait(device.submit(prefill(0)));
    });

    it('a row may want the logits of several of its last tokens, each as if it were the last', () => {
      const rows = prompt.length;
      const all = device
        .wait(device.submit(hot(runner.fill([{ slot: 0, position: 0, tokens: prompt, logits: 'all' }]))))
        .tokens.slice(0, rows);
      for (const n of [1, 2, 8, 21]) {
        const got = device.wait(
          device.submit(hot(runner.fill([{ slot: 1, position: 0, tokens: prompt.slice(0, n) }]))),
        );
        assert.equal(got.tokens[0], all[n - 1]);
      }
    });

    it('a block read out, overwritten and written back is the same to the bit', () => {
      const { kv } = device;
      const decode = () => runner.fill([{ slot: 0, position: 20, tokens: [prompt[20]] }]);
      device.wait(device.submit(prefill(0)));
      const want = device.wait(device.submit(hot(decode()))).tokens[0];
      const logits = name.startsWith('null') ? null : device.logits(0);
      const saved = [0, 1].map((block) => {
        const host = kv.allocateHost(kv.blockBytes);
        const transfer = kv.read(block, host);
        while (!kv.done(transfer));
        return host;
      });
      device.wait(device.submit(runner.fill([{ slot: 0, position: 0, tokens: sequence(30, 8, VOCAB) }])));
      const transfers = saved.map((host, block) => kv.write(block, host));
      while (!transfers.every((t) => kv.done(t)));
      assert.equal(device.wait(device.submit(hot(decode()))).tokens[0], want);
      if (logits) assert.deepEqual(device.logits(0), logits);
    });

    it('a transfer of a block that is not there, or of another size, is refused', () => {
      const { kv } = device;
      const host = kv.allocateHost(kv.blockBytes);
      const refused = { code: 'native_error' };
      assert.throws(() => kv.read(12, host), refused);
      assert.throws(() => kv.read(-1, host), refused);
      assert.throws(() => kv.write(12, host), refused);
      assert.throws(() => kv.write(0, kv.allocateHost(kv.blockBytes - 8)), refused);
      assert.throws(() => kv.read(0, kv.allocateHost(kv.blockBytes + 8)), refused);
    });

    it('tickets count up and end in order; more steps than its depth are not taken', () => {
      const { depth } = device.info;
      const steps = Array.from({ length: depth + 1 }, () => runner.another());
      const first = device.submit(steps[0]);
      for (let i = 1; i < depth; i++) assert.equal(device.submit(steps[i]), first + i);
      assert.throws(() => device.submit(steps[depth]), /in flight|was not waited for/);
      assert.throws(() => device.wait(first + depth), /ticket/);
      for (let i = 0; i < depth; i++) assert.equal(device.wait(first + i).completed, true);
      assert.throws(() => device.wait(first), /ticket/);
    });
  });
}

describe('steps in flight at depth 2', () => {
  it('one that is cancelled takes the one behind it along', () => {
    let steps = 0;
    const device: Device = createNullDevice({
      depth: 2,
      onStep: () => {
        if (++steps === 1) Atomics.store(device.cancel, 0, 1);
      },
    });
    const runner = new Runner(model, { device, session: 64 });
    const [a, b] = [device.submit(runner.another()), device.submit(runner.another())];
    assert.equal(device.wait(a).completed, false);
    assert.equal(device.wait(b).completed, false);
    assert.equal(steps, 1);
    assert.equal(device.wait(device.submit(runner.another())).completed, true);
  });

  it('transfers stand in line with the steps', () => {
    const device = createNullDevice({ depth: 2, transferDelay: 3 });
    const runner = new Runner(model, { device, session: 64 });
    const { kv } = device;
    const at = (tokens: number[]) => {
      const step = runner.another();
      step.tokens.set(tokens);
      return step;
    };
    const hosts = [0, 1].map(() => kv.allocateHost(kv.blockBytes));
    const first = device.submit(at([1, 2, 3]));
    const t0 = kv.read(0, hosts[0]);
    const second = device.submit(at([7, 8, 9]));
    const t1 = kv.read(0, hosts[1]);
    assert.equal(kv.done(t1), false);
    device.wait(first);
    while (!kv.done(t0));
    device.wait(second);
    while (!kv.done(t1));
    assert.notDeepEqual(hosts[0], hosts[1]);
    device.wait(device.submit(at([1, 2, 3])));
    const again = kv.allocateHost(kv.blockBytes);
    const t2 = kv.read(0, again);
    while (!kv.done(t2));
    assert.deepEqual(again, hosts[0]);
  });
});

describe('the flat step', () => {
  it('grows an array without losing any', () => {
    const runner = new Runner(model, { device: createNullDevice(), session: 64 });
    const step = runner.fill([{ slot: 1, position: 3, tokens: [4, 5, 6], logits: 'all' }]);
    const before = step.bytes.length;
    step.masks.fill(77);
    step.reserve('historyTokens', 5000);
    assert.ok(step.bytes.length > before && step.historyTokens.length >= 5000);
    assert.deepEqual([...step.tokens.subarray(0, 3)], [4, 5, 6]);
    assert.deepEqual([step.rowCount, step.tokenCount, step.logitCount], [1, 3, 3]);
    assert.ok(step.masks.every((x) => x === 77));
    assert.equal(step.topP[0], 1);
    assert.equal(step.header[0], STEP_LAYOUT);
    step.historyTokens[4999] = 1;
    assert.equal(new Int32Array(step.bytes.buffer)[step.historyTokens.byteOffset / 4 + 4999], 1);
  });
});
