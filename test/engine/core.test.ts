import assert from 'node:assert/strict';
import { test } from 'node:test';
import { engineOptions, parseOptions } from '../../src/config.js';
import { createNullDevice } from '../../src/device/null/index.js';
import { planModel } from '../../src/engine/core.js';
import { errors, InvariantError } from '../../src/errors.js';
import { tokens } from '../support/batch.js';
import { openCore, program, request } from '../support/core.js';

for (const depth of [1, 2]) {
  test(`when our own code fails, what was in flight fails, and sessions continue with their tokens (${depth} in flight)`, () => {
    const options = { cacheMaxEntryCount: 50, cacheBlockSeqLen: 16 };
    const { core, run, failed, out } = openCore(options, 'a model', depth);
    const prompt = tokens(40, 1);
    const first = run(request(1, prompt, 'a'));
    core.cache.commit = () => {
      throw new InvariantError('broken on purpose');
    };
    out.set(2, []);
    core.batch.submit(request(2, tokens(30, 2), 'b'));
    assert.throws(() => core.batch.step(), /broken on purpose/);
    core.restart(errors.engineFailed('broken on purpose'));
    assert.deepEqual(failed, [2]);
    core.batch.check();
    const turn = [...prompt, ...first, 5, 6, 7];
    const again = run(request(3, turn, 'a'));
    const fresh = openCore({ cacheMaxEntryCount: 50 });
    assert.deepEqual(again, fresh.run(request(1, turn, null)));
    assert.equal(core.batch.sessions.get('a', 0).busy, false);
  });
}

test('statistics: sessions by state without the requests that have none, and every step in the histogram', () => {
  // a measured budget, after a step that the machine held up, would not let both prompts into one step
  const { core, run, out } = openCore({ cacheMaxEntryCount: 50, cacheBlockSeqLen: 16, maxPrefillTokenNum: 256 });
  run(request(1, tokens(40, 1), 'kept'));
  for (const [id, name] of [
    [2, 'busy'],
    [3, null],
  ] as const) {
    out.set(id, []);
    core.batch.submit(request(id, tokens(40, id), name));
  }
  core.batch.step();
  out.set(4, []);
  core.batch.submit(request(4, tokens(40, 4), null));
  const stats = core.stats();
  assert.deepEqual(stats.sessionStates, { active: 1, cached: 1, evicted: 0 });
  assert.deepEqual(stats.cache.sequences, { total: 4, active: 2, cached: 1, evicted: 1 });
  assert.equal(
    stats.stepTimes.counts.reduce((a, b) => a + b, 0),
    stats.steps,
  );
  assert.equal(stats.stepTimes.counts.length, stats.stepTimes.boundsMs.length + 1);
});

test('the memory split: share, blocks and bytes, refusals with the numbers', () => {
  const device = createNullDevice({ memoryFree: 100 * 2 ** 20 });
  const plan = (cacheMaxEntryCount: unknown, more = {}) =>
    planModel(program, 20 * 2 ** 20, parseOptions(engineOptions, { cacheMaxEntryCount, ...more }), device).memory;
  // 2 layers x 1 head x 32 x (K and V) x 2 bytes = 256 bytes a token
  assert.equal(plan(0.5).bytesPerToken, 256);
  assert.equal(plan(10).kvBlocks, 10);
  assert.equal(plan('1MiB').kvBlocks, 64);
  const half = plan(0.5);
  const left = half.freeBytes - half.weightBytes - half.workspaceBytes;
  assert.equal(half.kvBlocks, Math.floor((left * 0.5) / (64 * 256)));
  assert.match(half.arithmetic, /100 MiB free - 20.0 MiB weights - .* left; x 0.5 = .* blocks of 64 tokens/);
  assert.throws(() => plan('1GiB'), { code: 'not_enough_memory', message: /1.0 GiB.*are available/ });
  assert.throws(() => plan('1KiB'), { code: 'not_enough_memory', message: /one KV block needs 16.0 KiB, but 1.0 KiB/ });
  assert.throws(() => plan(0.5, { sessionLen: 5000 }), { code: 'invalid_option', message: /1024/ });
  assert.equal(plan(3, { cacheBlockSeqLen: 'session' }).blockLen, 1024);
  assert.equal(plan(10, { quantPolicy: 8 }).bytesPerToken, 128 + 16);
});

test('options: names, kinds and ranges are checked, and a near miss gets a hint', () => {
  assert.throws(() => parseOptions(engineOptions, { cacheMaxEntryCnt: 1 }), {
    code: 'unknown_option',
    message: /did you mean 'cacheMaxEntryCount'/,
  });
  for (const bad of [0, -1, 1.5, 'many', '', '0', '5XB', Number.NaN]) {
    assert.throws(
      () => parseOptions(engineOptions, { cacheMaxEntryCount: bad }),
      { code: 'invalid_option' },
      String(bad),
    );
  }
  for (const bad of [8, 24, 8192, 'x']) {
    assert.throws(
      () => parseOptions(engineOptions, { cacheBlockSeqLen: bad }),
      { code: 'invalid_option' },
      String(bad),
    );
  }
  assert.deepEqual(parseOptions(engineOptions, { cacheMaxEntryCount: '0.25' }).cacheMaxEntryCount, {
    kind: 'share',
    share: 0.25,
  });
});

test('a mistyped address of a session store is refused, and becomes no folder', () => {
  const foreign = [
    'mysql://u@h/d',
    'redis:/127.0.0.1',
    'REDIS://localhost',
    'localhost:6379',
    'http://h',
    'redis://h:x',
  ];
  for (const sessionStore of foreign)
    assert.throws(() => parseOptions(engineOptions, { sessionStore }), {
      code: 'invalid_option',
      message: /redis:\/\//,
    });
  for (const sessionStore of [
    '',
    './a:b',
    '/var/a:b',
    'C:\\data',
    '@file',
    'redis://h/0',
    'rediss://h',
    'postgres://u@h/d',
  ])
    assert.equal(parseOptions(engineOptions, { sessionStore }).sessionStore, sessionStore);
});

test('a head dimension that the kernels cannot compute is refused by its name, before anything is loaded', () => {
  for (const headDim of [8, 24, 40, 72, 100]) {
    const odd = { ...program, dims: { ...program.dims, headDim } };
    assert.throws(() => planModel(odd, 0, parseOptions(engineOptions, {}), createNullDevice()), {
      code: 'unsupported_model',
      message: new RegExp(`${headDim} dimensions.*multiples of 16`),
    });
  }
});
