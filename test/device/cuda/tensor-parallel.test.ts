/** A model on several GPUs, without one: shares of weights, KV and sums, who meets whom where, and what is refused. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { engineOptions, parseOptions } from '../../../src/config.js';
import { createCudaDevice, findCuda } from '../../../src/device/cuda/index.js';
import { chooseDevice } from '../../../src/devices.js';
import { Core } from '../../../src/engine/core.js';
import { errors, type LongmindError } from '../../../src/errors.js';
import { type ModelOptions, Runner, type RunnerOptions, randomModel, sequence } from '../support.js';
import { FakeDriver, fakeCompile, type Launched } from './fake-driver.js';
import { request } from './request.js';

const VOCAB = 500;
const SPLIT: ModelOptions = {
  vocab: VOCAB,
  layers: 2,
  heads: 8,
  kvHeads: 4,
  headDim: 32,
  ffDim: 512,
  tiedOutput: false,
};
const F16: ModelOptions = { ...SPLIT, type: 'F16' };

function driverOf(count: number): FakeDriver {
  return Object.assign(new FakeDriver(), { count });
}
function open(model: ModelOptions, tp: number, driver = driverOf(tp), more: RunnerOptions = {}) {
  const device = createCudaDevice({ driver, compile: fakeCompile, tp });
  const made = randomModel(model);
  const runner = new Runner(made, { device, session: 2048, maxTokens: 1024, maxRows: 80, maxLogits: 600, ...more });
  return { made, runner, device, driver, gpus: driver.all };
}
const kernels = (launches: Launched[]) => launches.map((l) => l.kernel);
const clear = (gpus: FakeDriver[]) => {
  for (const { ran, log } of gpus) ran.length = log.length = 0;
};

describe('tensor parallel', () => {
  const q4k: ModelOptions = { ...SPLIT, type: (n) => (/down/.test(n) ? 'Q6_K' : 'Q4_K'), headDim: 64, ffDim: 1024 };
  const cases: [string, ModelOptions, number[]][] = [
    ['f16', F16, [2, 4]],
    ['bf16, tied output', { ...F16, type: 'BF16', tiedOutput: true }, [2]],
    ['q8_0', { ...SPLIT, type: 'Q8_0' }, [2, 4]],
    ['k-quants of two types', q4k, [2]],
    ['biases', { ...F16, flags: { biases: { qkv: true, output: true, gateUp: true, down: true } } }, [2]],
  ];
  for (const [name, model, counts] of cases)
    for (const tp of counts)
      for (const bits of [16, 8] as const)
        it(`${name} on ${tp} GPUs, KV of ${bits} bits: every launch is right, and all run the same kernels`, () => {
          const { runner, gpus } = open(model, tp, driverOf(tp), { bits });
          clear(gpus);
          runner.run([{ slot: 0, position: 0, tokens: sequence(960, 1, VOCAB) }]);
          for (const rows of [1, 3, 17, 80])
            runner.run(Array.from({ length: rows }, (_, slot) => ({ slot, position: 1000 + slot, tokens: [1] })));
          const chunk = { slot: 2, position: 0, tokens: sequence(300, 2, VOCAB) };
          runner.run([chunk, { slot: 0, position: 960, tokens: [3, 4], logits: 'all' }]);
          runner.run([{ slot: 1, position: 0, tokens: [5], logits: 'none' }]);
          runner.step.copies.set([1, 2, 16]);
          runner.fill([{ slot: 4, position: 0, tokens: [1] }]).copyCount = 1;
          runner.device.wait(runner.device.submit(runner.step));
          assert.equal(gpus.length, tp);
          for (const gpu of gpus) {
            assert.deepEqual(kernels(gpu.ran), kernels(gpus[0]!.ran));
            const meetings = gpu.ran.filter((l) => l.kernel === 'reduce');
            assert.equal(meetings.length, 8 * 4);
            assert.ok(!gpu.ran.some((l) => l.macros.PARTS || (/gemm/.test(l.kernel) && l.macros.EPI === 1)));
          }
          runner.close();
        });

  it('each product pushes its share to where the next sum reads it, by turns', () => {
    const { runner, gpus } = open(F16, 2);
    clear(gpus);
    runner.run([{ slot: 0, position: 0, tokens: [1, 2, 3] }]);
    const shares = gpus.map((gpu) => {
      const sums = gpu.ran.filter((l) => l.kernel === 'reduce');
      assert.deepEqual(
        sums.map((l) => l.values.slot),
        [0, 2, 4, 6],
      );
      assert.notEqual(sums[0]!.values.shares, sums[1]!.values.shares);
      assert.equal(sums[0]!.values.shares, sums[2]!.values.shares);
      return sums.map((l) => l.values);
    });
    gpus.forEach((gpu, rank) => {
      const pushes = gpu.ran.filter((l, i) => gpu.ran[i + 1]?.kernel === 'reduce' && /gemm/.test(l.kernel));
      assert.equal(pushes.length, 4);
      pushes.forEach(({ values }, i) => {
        const to = gpu.addresses(values.outs!, 2);
        const wanted = shares.map((s) => s[i]!.shares! + 4 * rank * s[i]!.shareStride!);
        assert.deepEqual(to, wanted);
      });
      // logits: side by side, whole tiles of 64 features
      const logits = gpu.ran.at(-3)!;
      assert.deepEqual(kernels(gpu.ran).slice(-2), ['meet', 'sample']);
      assert.equal(logits.values.n, [256, 244][rank]);
      const rows = gpus.map((g) => g.ran.at(-1)!.values.logits! + 4 * 256 * rank);
      assert.deepEqual(gpu.addresses(logits.values.outs!, 2), rows);
    });
    runner.close();
  });

  it('many rows: each is added and normed by the one GPU that owns it, and all meet before the next product reads it', () => {
    const { runner, gpus } = open(F16, 2);
    for (const count of [257, 900]) {
      clear(gpus);
      runner.run([{ slot: 0, position: 0, tokens: sequence(count, 1, VOCAB) }]);
      for (const gpu of gpus) {
        const sums = gpu.ran.filter((l) => l.kernel === 'reduce');
        const pushes = gpu.ran.filter((_, i) => gpu.ran[i + 1]?.kernel === 'reduce');
        const after = gpu.ran.filter((_, i) => gpu.ran[i - 1]?.kernel === 'reduce');
        assert.deepEqual([sums.length, pushes.length], [4, 4]);
        assert.ok([...sums, ...pushes].every((l) => l.macros.OWNED === 1));
        assert.deepEqual(
          after.map((l) => [l.kernel, l.values.slot]),
          [1, 3, 5, 7].map((slot) => ['meet', slot]),
        );
        for (const l of sums) assert.equal(l.config.grid[0], 64 * Math.ceil(Math.ceil(count / 64) / 2));
      }
    }
    clear(gpus);
    runner.run([{ slot: 0, position: 0, tokens: sequence(256, 1, VOCAB) }]);
    assert.ok(gpus.every((gpu) => gpu.ran.every((l) => !l.macros.OWNED)));
    runner.close();
  });

  it('many sequences: each GPU gets the logits of its rows and draws their tokens, and all meet before anybody reads them', () => {
    const { runner, gpus } = open(F16, 2);
    const rows = (count: number) => Array.from({ length: count }, (_, slot) => ({ slot, position: 9, tokens: [1] }));
    for (const [count, owned] of [
      [64, false],
      [65, true],
      [80, true],
    ] as const) {
      clear(gpus);
      runner.run(rows(count));
      for (const gpu of gpus) {
        const last = gpu.ran.slice(owned ? -4 : -3);
        assert.deepEqual(kernels(last.slice(1)), owned ? ['meet', 'sample', 'meet'] : ['meet', 'sample']);
        assert.equal(last[0]!.macros.OWNED === 1, owned);
        assert.equal(last[2]!.macros.OWNED === 1, owned);
        const slots = gpu.ran.flatMap((l) => (l.kernel === 'meet' ? [l.values.slot] : []));
        assert.equal(new Set(slots).size, slots.length);
      }
    }
    runner.close();
  });

  it('every step has a number that all GPUs get, and it rises', () => {
    const { runner, gpus } = open(F16, 2);
    let before = 0;
    for (let i = 0; i < 4; i++) {
      clear(gpus);
      runner.run([{ slot: 0, position: i, tokens: [1] }]);
      const numbers = gpus.map((gpu) => {
        const at = gpu.ran.find((l) => l.kernel === 'reduce')!.values.step!;
        return new Int32Array(gpu.contents(at, 4).slice().buffer)[0]!;
      });
      assert.equal(numbers[0], numbers[1]);
      assert.ok(numbers[0]! > before);
      before = numbers[0]!;
    }
    runner.close();
  });

  it('no GPU gets far ahead of the other while a long step is launched', () => {
    const { runner, driver, gpus } = open({ ...F16, layers: 8 }, 2);
    clear(gpus);
    runner.run([{ slot: 0, position: 0, tokens: sequence(900, 1, VOCAB) }]);
    let ahead = 0;
    for (const { gpu } of driver.log) {
      ahead += gpu === 0 ? 1 : -1;
      assert.ok(ahead >= 0 && ahead <= 20, `${ahead} kernels ahead`);
    }
    assert.equal(ahead, 0);
    runner.close();
  });

  it('each GPU gets its share of every matrix, all of them together the whole', () => {
    const { made, runner, gpus } = open(F16, 2);
    const { program, source } = made;
    const places = new Map<string, string>();
    const bytes = Buffer.from(readFileSync(source.path));
    const wanted = new Map<string, number>();
    for (const { name, shape, offset, byteLength } of source.tensors.values()) {
      if (shape.length < 2) continue;
      const [inputs, rows] = shape as [number, number];
      const split = /attn_output|ffn_down/.test(name);
      for (let r = 0; r < rows; r++)
        for (const column of split ? [0, inputs / 2] : [0]) {
          const at = offset + (r * byteLength) / rows + 2 * column;
          places.set(bytes.toString('hex', at, at + 8), `${name} ${r} ${column}`);
          wanted.set(`${name} ${r} ${column}`, name === 'token_embd.weight' ? 2 : 1);
        }
    }
    const seen = new Map<string, number>();
    for (const { repacked, gpu } of gpus)
      for (const { rows, first } of repacked)
        rows.forEach((begin, r) => {
          const place = places.get(begin);
          assert.ok(place, 'a row that is none');
          seen.set(place, (seen.get(place) ?? 0) + 1);
          const [name, row, column] = place.split(' ') as [string, string, string];
          const share = program.buffers.find((b) => b.name === 'q')!.width / 2;
          if (/attn_q/.test(name)) assert.equal(Number(row), gpu * share + first + r);
          if (/attn_output/.test(name)) assert.equal(Number(column), gpu * share);
        });
    assert.deepEqual([...seen].sort(), [...wanted].sort());
    runner.close();
  });

  it('KV of both grows together: where one has no memory nothing changes', () => {
    const { runner, device, gpus } = open(F16, 2);
    const free = gpus.map((g) => g.memory().free);
    gpus[1]!.limit = 0;
    assert.equal(device.growKv(device.kv.blockBytes > 0 ? 50_000 : 0), false);
    gpus[1]!.limit = 2 ** 32;
    assert.deepEqual(
      gpus.map((g) => g.memory().free),
      free,
    );
    assert.equal(runner.run([{ slot: 0, position: 0, tokens: [1] }]).completed, true);
    runner.close();
  });

  it('KV in host memory: each GPU copies its share', () => {
    const { runner, device, gpus } = open(F16, 2);
    const { kv } = device;
    const host = kv.allocateHost(kv.blockBytes);
    for (const gpu of gpus) gpu.orders.length = 0;
    const transfer = kv.read(1, host);
    for (const gpu of gpus) gpu.idle = gpu.gpu === 0;
    assert.equal(kv.done(transfer), false);
    for (const gpu of gpus) gpu.idle = true;
    assert.equal(kv.done(transfer), true);
    for (const gpu of gpus)
      assert.deepEqual(
        gpu.orders.filter((o) => o.order === 'download').map((o) => o.bytes),
        [kv.blockBytes / 2],
      );
    assert.ok(kv.writeRate! > 0);
    runner.close();
  });

  it('sizes are of all together', () => {
    const [one, two] = [open(F16, 1), open(F16, 2)];
    const { program, source } = one.made;
    const ratio = two.device.weightBytes(program, source) / one.device.weightBytes(program, source);
    // the embedding, whole on each, and the norms
    assert.ok(ratio > 1 && ratio < 1.3, `${ratio}`);
    assert.equal(two.device.info.gpus, 2);
    assert.equal(two.device.info.kernels, `${one.device.info.kernels}-tp2`);
    assert.match(two.device.info.name, /2 x fake/);
    for (const { runner } of [one, two]) runner.close();
  });
});

/** An engine's core on two GPUs that are not there, and what it told of its requests. */
function coreOnTwo(more: { cacheHost?: string } = {}) {
  const model = randomModel({ ...F16, vocab: 300 });
  const driver = driverOf(2);
  const config = parseOptions(engineOptions, {
    ...{ sessionLen: 512, cacheBlockSeqLen: 16, cacheMaxEntryCount: 64, maxBatchSize: 2, maxPrefillTokenNum: 64 },
    ...{ device: 'cuda', tp: 2, ...more },
  });
  const told = { finished: 0, failed: [] as { code: string; message: string }[] };
  const data = { program: model.program, weights: model.source, config, fingerprint: '', modelKey: 'm' };
  const core = new Core(data, createCudaDevice({ driver, compile: fakeCompile, tp: config.tp }), {
    token: () => {},
    finished: () => told.finished++,
    failed: (_, e) => told.failed.push(e),
  });
  return { core, driver, told };
}

describe('a GPU of several that fails in the middle of a step', () => {
  it('is a typed error; requests in flight fail with it, sessions keep their ids and go on', async () => {
    const { core, driver, told } = coreOnTwo();
    const turn = (id: number, sessionId: string) => {
      core.batch.submit(request(id, sessionId, 100));
      for (;;)
        try {
          if (!core.batch.step()) return;
        } catch (e) {
          core.restart(e as LongmindError);
          return;
        }
    };
    turn(1, 'a');
    assert.equal(told.finished, 1);
    const gpu = driver.all[1]!;
    const { eventWait } = gpu;
    gpu.eventWait = () => {
      gpu.eventWait = eventWait;
      throw errors.native(719, 'cuEventSynchronize: CUDA_ERROR_LAUNCH_FAILED');
    };
    turn(2, 'b');
    assert.deepEqual(
      told.failed.map((e) => e.code),
      ['native_error'],
    );
    assert.match(told.failed[0]!.message, /719.*LAUNCH_FAILED/);
    assert.ok(core.batch.sessions.list(0).some((s) => s.id === 'a'));
    turn(3, 'a');
    assert.equal(told.finished, 2);
    assert.equal(core.info.memory.gpus, 2);
    await core.close();
  });
});

describe('a GPU whose context is lost', () => {
  it('every request after it fails with a typed error, sessions keep their ids, and the engine can be closed', async () => {
    const { core, driver, told } = coreOnTwo({ cacheHost: '1MiB' });
    const turn = (id: number, sessionId: string) => {
      core.batch.submit(request(id, sessionId, 100));
      while (core.batch.step());
    };
    turn(1, 'a');
    assert.equal(told.finished, 1);
    const pinned = driver.all[0]!.pinnedBytes;
    assert.ok(pinned >= 2 ** 20 / 2);
    lose(driver.all[1]!);
    turn(2, 'b');
    turn(3, 'a');
    assert.deepEqual(
      told.failed.map((e) => e.code),
      ['native_error', 'native_error'],
    );
    assert.match(told.failed[1]!.message, /700.*ILLEGAL_ADDRESS/);
    assert.ok(core.batch.sessions.list(0).some((s) => s.id === 'a'));
    // what the engine does when transfers fail between two steps
    core.restart(errors.native(700, 'cuEventQuery: CUDA_ERROR_ILLEGAL_ADDRESS'));
    assert.ok(core.batch.sessions.list(0).some((s) => s.id === 'a'));
    turn(4, 'a');
    assert.equal(told.failed.at(-1)!.code, 'native_error');
    assert.equal(driver.all[0]!.pinnedBytes, pinned);
    await core.close();
  });
});

/** From now on the driver gives the same error to all that is asked of this GPU. */
function lose(gpu: FakeDriver): void {
  for (const name of methodsOf(gpu))
    Object.assign(gpu, {
      [name]: () => {
        throw errors.native(700, `${name}: CUDA_ERROR_ILLEGAL_ADDRESS`);
      },
    });
}

/** Names of what an object can do, its classes' included. */
function methodsOf(object: object): string[] {
  const names: string[] = [];
  for (let o = object; o !== Object.prototype; o = Object.getPrototypeOf(o) as object)
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(o)))
      if (typeof value === 'function' && name !== 'constructor') names.push(name);
  return [...new Set(names)];
}

describe('one GPU adds as two do', () => {
  const parts = (model: ModelOptions) => {
    const { runner, driver } = open(model, 1);
    clear(driver.all);
    runner.run([{ slot: 0, position: 0, tokens: sequence(20, 1, VOCAB) }]);
    runner.run([{ slot: 0, position: 0, tokens: sequence(1000, 1, VOCAB) }]);
    runner.close();
    const products = driver.ran.filter((l) => /^gemm/.test(l.kernel) && l.macros.EPI === 1);
    assert.equal(products.length, 8);
    return new Set(products.map((l) => l.macros.PARTS ?? 1));
  };
  it('the inputs of o and down in two halves', () => {
    assert.deepEqual(parts(F16), new Set([2]));
    assert.deepEqual(parts({ ...SPLIT, type: 'Q8_0' }), new Set([2]));
  });
  it('but in one where two GPUs cannot share the model', () => {
    assert.deepEqual(parts({ ...F16, heads: 9, kvHeads: 3, headDim: 64, ffDim: 1536 }), new Set([1]));
    assert.deepEqual(parts({ ...SPLIT, type: 'Q4_K', heads: 4, kvHeads: 2, headDim: 64, ffDim: 1024 }), new Set([1]));
  });
});

describe('what several GPUs cannot do is said', () => {
  const refused = (message: RegExp, code = 'invalid_option') => ({ code, message });
  it('a number that is no divisor of the heads, or of the inputs of o and down', () => {
    assert.throws(() => open(F16, 3), refused(/'tp'.*divisor of the model's 8 heads and 4 KV heads.*3/));
    assert.throws(
      () => open({ ...F16, ffDim: 320 }, 2),
      refused(/'tp'.*multiple of 64 of the 320 inputs of 'blk.0.ffn_down/),
    );
  });
  it('more GPUs than there are', () => {
    assert.throws(() => open(F16, 4, driverOf(2)), refused(/'tp'.*at most 2.*4/));
  });
  it('GPUs that differ, or do not reach each other', () => {
    const unequal = driverOf(2);
    unequal.gpus = () => [unequal.info, { ...unequal.info, name: 'small', totalBytes: 2 ** 30 }];
    assert.throws(
      () => open(F16, 2, unequal),
      refused(/must be alike: cuda:0 is fake .*cuda:1 is small/, 'cuda_unavailable'),
    );
    const apart = Object.assign(driverOf(2), { peers: false });
    assert.throws(() => open(F16, 2, apart), refused(/cuda:0 cannot reach the memory of cuda:1/, 'cuda_unavailable'));
  });
  it('a device that is no GPU, too few GPUs, a draft model', async () => {
    const choose = (device: string, more: object, count = 2) =>
      chooseDevice({ device, tp: 2, ...more }, '', { offline: true }, () => findCuda(driverOf(count)));
    await assert.rejects(choose('cpu', {}), refused(/'tp'.*1 on the device 'cpu'/));
    await assert.rejects(choose('cuda', {}, 1), refused(/'tp'.*at most 1/));
    await assert.rejects(choose('auto', {}, 1), refused(/'tp'.*at most 1/));
    await assert.rejects(choose('cuda', { draftModel: 'small' }), refused(/'tp'.*draft model/));
  });
  it('operation by operation', () => {
    assert.throws(() => open(F16, 2, driverOf(2), { debug: true }), refused(/debugOps.*--tp/));
  });
});
