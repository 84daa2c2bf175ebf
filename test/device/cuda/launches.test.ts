/** The host side without a GPU: a driver that checks every address, launch and bound; and every message. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createCudaDevice } from '../../../src/device/cuda/index.js';
import { type ModelOptions, Runner, randomModel, sequence, type TestModel } from '../support.js';
import { FakeDriver, fakeCompile } from './fake-driver.js';

const VOCAB = 300;
/** Random weights take their time: made once. */
const made = new Map<ModelOptions, TestModel>();
function modelOf(options: ModelOptions): TestModel {
  const model = made.get(options) ?? randomModel({ vocab: VOCAB, layers: 1, ...options });
  made.set(options, model);
  return model;
}
const F16: ModelOptions = { type: 'F16' };
function open(model: ModelOptions, driver = new FakeDriver(), bits: 16 | 8 | 4 = 16) {
  const device = createCudaDevice({ driver, compile: fakeCompile });
  const runner = new Runner(modelOf(model), {
    device,
    bits,
    session: 2048,
    maxTokens: 600,
    maxRows: 80,
    maxLogits: 100,
  });
  return { runner, driver, device };
}
const mixed = (name: string) => (/attn_v|ffn_down|token_embd/.test(name) ? 'Q6_K' : 'Q4_K');
const uneven = (name: string) => (/ffn_up/.test(name) ? 'Q8_0' : 'Q4_0');

describe('the CUDA device launches only what the kernels can do', () => {
  const models: Record<string, ModelOptions> = {
    f16: { type: 'F16' },
    'bf16, heads of 128': { type: 'BF16', heads: 4, kvHeads: 2, headDim: 128, ffDim: 448 },
    'f32, heads of 48': { type: 'F32', headDim: 48, ffDim: 520 },
    'q8_0, heads of 64': { type: 'Q8_0', heads: 6, kvHeads: 2, headDim: 64, ffDim: 320 },
    q5_k: { type: 'Q5_K', heads: 4, headDim: 64, ffDim: 256 },
    'q4_k with q6_k': { type: mixed, heads: 4, headDim: 64, ffDim: 256 },
    'gate and up of two types': { type: uneven },
  };
  for (const [name, model] of Object.entries(models)) {
    for (const bits of [16, 8, 4] as const) {
      for (const capability of [80, 89, 90]) {
        it(`${name}, KV of ${bits} bits, sm_${capability}`, () => {
          const driver = new FakeDriver();
          driver.info = {
            ...driver.info,
            capability,
            sharedBytes: { 80: 166912, 89: 101376, 90: 232448 }[capability]!,
          };
          const { runner } = open(model, driver, bits);
          runner.run([{ slot: 0, position: 0, tokens: sequence(590, 1, VOCAB) }]);
          for (const rows of [1, 3, 17, 80])
            runner.run(Array.from({ length: rows }, (_, slot) => ({ slot, position: 600 + slot, tokens: [1] })));
          const chunk = { slot: 2, position: 0, tokens: sequence(300, 2, VOCAB) };
          runner.run([chunk, { slot: 0, position: 590, tokens: [3, 4], logits: 'all' }]);
          runner.step.copies.set([1, 2, 16]);
          runner.fill([{ slot: 4, position: 0, tokens: [1] }]).copyCount = 1;
          runner.device.wait(runner.device.submit(runner.step));
          assert.equal(driver.graphsMade, 4);
          const seen = new Set(driver.launches.map((l) => l.kernel));
          for (const kernel of ['copy_blocks', 'rope_store', 'attention_decode', 'sample', 'embed', 'repack'])
            assert.ok(seen.has(kernel), kernel);
          assert.ok(capability >= 90 || !driver.launches.some((l) => l.config.early || /wgmma/.test(l.kernel)));
          runner.close();
        });
      }
    }
  }

  it('a step of the same size and layout is a graph that was made before', () => {
    const { runner, driver } = open(F16);
    for (let i = 0; i < 6; i++) runner.run([{ slot: 0, position: i, tokens: [1] }]);
    assert.equal(driver.graphLaunches, 6);
    assert.equal(driver.graphsMade, 2); // one for each of the two places of a step
    runner.close();
  });

  it('a step whose lists have grown finds room', () => {
    const { runner, driver } = open(F16);
    const step = runner.fill([{ slot: 0, position: 0, tokens: [1] }]);
    step.reserve('masks', 1_000_000);
    runner.fill([{ slot: 0, position: 0, tokens: [1] }]);
    runner.device.wait(runner.device.submit(step));
    assert.equal(driver.graphLaunches, 1);
    runner.close();
  });

  it('a malformed step is refused, and the next one runs', () => {
    const { runner } = open(F16);
    const refused = { code: 'native_error' };
    assert.throws(() => runner.run([{ slot: 0, position: 0, tokens: [VOCAB] }]), refused);
    assert.throws(() => runner.run([{ slot: 0, position: 0, tokens: [-1] }]), refused);
    assert.throws(() => runner.run([{ slot: 80, position: 0, tokens: [1] }]), refused);
    assert.throws(() => runner.run([{ slot: 0, position: 2048, tokens: [1] }]), refused);
    assert.equal(runner.run([{ slot: 0, position: 0, tokens: [1] }]).completed, true);
    runner.close();
  });

  it('a step that is cancelled before it is launched takes the one behind it along', () => {
    const { runner, device } = open(F16);
    const a = device.submit(runner.another());
    Atomics.store(device.cancel, 0, 1);
    const b = device.submit(runner.another());
    assert.equal(device.wait(a).completed, true);
    assert.equal(device.wait(b).completed, false);
    assert.equal(device.wait(device.submit(runner.another())).completed, true);
    runner.close();
  });

  it('the KV pool does not grow beyond the memory, and stays as it is', () => {
    const driver = new FakeDriver();
    const { runner, device } = open(F16, driver);
    driver.limit = 0;
    assert.equal(device.growKv(10_000_000), false);
    assert.equal(device.growKv(1), true);
    runner.close();
  });
});

describe('many rows meet quantised weights as tiles that were dequantised once', () => {
  const run = (rows: number, driver = new FakeDriver()) => {
    const device = createCudaDevice({ driver, compile: fakeCompile });
    const model = modelOf({ type: mixed, heads: 4, headDim: 64, ffDim: 256 });
    const runner = new Runner(model, { device, session: 1024, maxTokens: 1024, maxRows: 4 });
    driver.launches.length = 0;
    runner.run([{ slot: 0, position: 0, tokens: sequence(rows, 1, VOCAB) }]);
    runner.close();
    return driver.launches;
  };

  it('from 897 rows on, and the product does not begin before they are there', () => {
    const launches = run(897);
    const products = launches.flatMap((l, i) => (l.kernel === 'gemm_wgmma' ? [i] : []));
    assert.equal(products.length, 6); // q, k, v, o, gate and up, down; the logits of one row are not among them
    for (const i of products) {
      const [before, product] = [launches[i - 1]!, launches[i]!];
      assert.equal(before.kernel, 'dequantise');
      assert.equal(before.values.dst, product.values.weights);
      assert.equal(product.config.early, false);
    }
    assert.equal(launches.filter((l) => l.kernel === 'gemm_q').length, 1);
  });
  it('not with fewer rows, nor without wgmma', () => {
    assert.ok(!run(896).some((l) => l.kernel === 'dequantise'));
    const driver = new FakeDriver();
    driver.info = { ...driver.info, capability: 80, sharedBytes: 166912 };
    assert.ok(!run(897, driver).some((l) => l.kernel === 'dequantise'));
  });
});

describe('few rows of a small model: products make the norm of their inputs', () => {
  const kernels = (rows: number, model: ModelOptions) => {
    const { runner, driver } = open({ layers: 2, ...model });
    driver.ran.length = 0;
    runner.run([{ slot: 0, position: 0, tokens: sequence(rows, 1, VOCAB), logits: 'all' }]);
    runner.close();
    return driver.ran;
  };
  for (const [name, model] of Object.entries({ f16: F16, 'q8_0, q, k and v of two types': { type: uneven } })) {
    it(`${name}: one norm is left, of the logits' rows`, () => {
      const launches = kernels(8, model);
      assert.equal(launches.filter((l) => l.kernel === 'rms_norm').length, 1);
      assert.ok(launches.filter((l) => l.macros.NORM === 128).length >= 4);
    });
    it(`${name}: not with nine rows`, () => {
      const launches = kernels(9, model);
      assert.equal(launches.filter((l) => l.kernel === 'rms_norm').length, 5);
      assert.ok(!launches.some((l) => l.macros.NORM));
    });
  }
  it('not where a row is long, or no multiple of 64', () => {
    for (const heads of [10, 33]) {
      const launches = kernels(3, { type: 'F16', heads, kvHeads: heads, headDim: heads === 10 ? 16 : 32, ffDim: 64 });
      assert.equal(launches.filter((l) => l.kernel === 'rms_norm').length, 5);
    }
  });
});

describe('the matrix instructions are asked whether they add alike', () => {
  const load = (bits: number[]) => {
    const driver = new FakeDriver();
    driver.bits = bits;
    const said: string[] = [];
    const device = createCudaDevice({ driver, compile: fakeCompile, onBuild: (line) => said.push(line) });
    return { driver, device, said, runner: () => new Runner(modelOf(F16), { device, maxTokens: 600, session: 640 }) };
  };

  it('all alike: wgmma is used', () => {
    const { driver, device, said, runner } = load([7, 7, 8, 7, 7, 7, 7]);
    const loaded = runner();
    loaded.run([{ slot: 0, position: 0, tokens: sequence(300, 1, VOCAB) }]);
    assert.ok(driver.launches.some((l) => l.kernel === 'gemm_wgmma'));
    assert.match(device.info.kernels, /^cuda-sm_90a-\d+$/);
    assert.ok(!said.some((line) => /different bits/.test(line)));
    loaded.close();
  });
  for (const way of [3, 4, 5, 6])
    it(`wgmma in way ${way} differs: only mma.sync is used, and that is said`, () => {
      const { driver, device, said, runner } = load([7, 7, 8, 7, 7, 7, 7].with(way, 9));
      const loaded = runner();
      driver.launches.length = 0;
      loaded.run([{ slot: 0, position: 0, tokens: sequence(300, 1, VOCAB) }]);
      assert.ok(!driver.launches.some((l) => /wgmma/.test(l.kernel) || l.macros.WGMMA));
      assert.match(device.info.kernels, /-mma$/);
      assert.ok(said.some((line) => /wgmma and mma\.sync give different bits/.test(line)));
      loaded.close();
    });
  it('mma.sync depends on the place: the GPU is refused', () => {
    const { runner } = load([7, 5, 8, 7, 7, 7, 7]);
    assert.throws(runner, { code: 'cuda_unavailable', message: /other bits/ });
  });
  it('a test that could not fail counts as none', () => {
    const { runner } = load([7, 7, 7, 7, 7, 7, 7]);
    assert.throws(runner, { name: 'InvariantError' });
  });
});

describe('what is missing is said in one message', () => {
  const create = (driver: FakeDriver, gpu = 0) => createCudaDevice({ driver, compile: fakeCompile, gpu });
  it('a GPU that is too old', () => {
    const driver = new FakeDriver();
    driver.info = { ...driver.info, name: 'Tesla T4', capability: 75 };
    assert.throws(() => create(driver), {
      code: 'cuda_unavailable',
      message: /Tesla T4 has compute capability 7\.5; 8\.0/,
    });
  });
  it('no GPU, or not the one asked for', () => {
    const none = new FakeDriver();
    none.gpus = () => [];
    assert.throws(() => create(none), { code: 'cuda_unavailable', message: /no GPU/ });
    assert.throws(() => create(new FakeDriver(), 3), { code: 'invalid_option', message: /cuda:3/ });
  });
  it('too little memory, with what needs how much', () => {
    const driver = new FakeDriver();
    driver.limit = 64 * 2 ** 20;
    const message = /needs .* \(weights .*, workspace .*, KV cache .*\)|weights .*, workspace .*, KV cache/;
    assert.throws(() => open(F16, driver), { code: 'not_enough_memory', message });
  });
  it('a weight type that the kernels do not have', () => {
    const { program, source, tensors } = modelOf(F16);
    const q2 = new Map(
      [...source.tensors].map(([name, t]) => [name, /attn_q/.test(name) ? { ...t, type: 'Q2_K' } : t]),
    );
    const model = { program, tensors, source: { ...source, tensors: q2 } };
    const device = createCudaDevice({ driver: new FakeDriver(), compile: fakeCompile });
    const message = /attn_q.*Q2_K.*Q5_K/;
    assert.throws(() => new Runner(model, { device }), { code: 'unsupported_tensor_type', message });
  });
});
