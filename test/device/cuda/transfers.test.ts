/** KV ↔ host memory on the CUDA device, without a GPU: on streams of their own, behind the steps, and no step waits for them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { engineOptions, parseOptions } from '../../../src/config.js';
import { createCudaDevice } from '../../../src/device/cuda/index.js';
import { Core } from '../../../src/engine/core.js';
import { Mover, TierMemory } from '../../../src/tiers/mover.js';
import { Runner, randomModel } from '../support.js';
import { FakeDriver, fakeCompile, type Order } from './fake-driver.js';
import { request } from './request.js';

const model = randomModel({ vocab: 300, layers: 1, type: 'F16' });

function open() {
  const driver = new FakeDriver();
  const device = createCudaDevice({ driver, compile: fakeCompile });
  const runner = new Runner(model, { device, session: 2048, maxTokens: 64, maxRows: 4, maxLogits: 8 });
  const orders = (work: () => void): Order[] => {
    const from = driver.orders.length;
    work();
    return driver.orders.slice(from);
  };
  return { driver, device, runner, orders };
}

describe('transfers of the CUDA device', () => {
  it('run on streams of their own that follow the steps; no step waits for them', () => {
    const { driver, device, runner, orders } = open();
    const { kv } = device;
    const host = kv.allocateHost(2 * kv.blockBytes);
    const [first, second] = [host.subarray(0, kv.blockBytes), host.subarray(kv.blockBytes)];
    const step = () => orders(() => void device.wait(device.submit(runner.another())));
    const steps = step().find((o) => o.order === 'upload')!.stream;
    driver.idle = false;
    let transfer = -1;
    for (const kind of ['read', 'write'] as const) {
      const begun = orders(() => {
        transfer = kv[kind](1, kind === 'read' ? first : second);
      });
      const copy = begun.find((o) => o.bytes === kv.blockBytes)!;
      assert.equal(copy.order, kind === 'read' ? 'download' : 'upload');
      assert.notEqual(copy.stream, steps);
      // behind the steps submitted before it
      const line = begun.find((o) => o.order === 'record' && o.stream === steps)!;
      const wait = begun.find((o) => o.order === 'wait' && o.stream === copy.stream && o.event === line.event);
      assert.ok(wait && begun.indexOf(line) < begun.indexOf(wait) && begun.indexOf(wait) < begun.indexOf(copy));
      assert.equal(kv.done(transfer), false);
      assert.ok(![...begun, ...step()].some((o) => o.order === 'wait' && o.stream === steps), 'a step waits');
    }
    driver.idle = true;
    assert.equal(kv.done(transfer), true);
    runner.close();
  });

  it('their rate is measured, once, without touching a KV block', () => {
    const { driver, device, runner, orders } = open();
    const { kv } = device;
    const rate = kv.writeRate!;
    assert.ok(rate > 0 && Number.isFinite(rate));
    const pool = driver.orders.filter((o) => o.bytes === kv.blockBytes).map((o) => o.at);
    const block = orders(() => kv.read(0, kv.allocateHost(kv.blockBytes))).find((o) => o.bytes === kv.blockBytes)!.at!;
    assert.ok(!pool.some((at) => at! >= block && at! < block + 4 * kv.blockBytes));
    assert.equal(orders(() => assert.equal(kv.writeRate, rate)).length, 0);
    runner.close();
  });

  it('host memory that cannot be pinned is refused in words', () => {
    const { driver, device, runner } = open();
    driver.hostLimit = 2 ** 20;
    assert.throws(() => device.kv.allocateHost(2 ** 21), { code: 'not_enough_memory', message: /pinned host memory/ });
    runner.close();
  });

  it('more host memory than one array can have is taken in pieces', () => {
    const { device, runner } = open();
    const { blockBytes } = device.kv;
    const pieces: number[] = [];
    const kv = {
      ...{ blockBytes, writeRate: null, done: () => true, read: () => 0, write: () => 0 },
      allocateHost: (bytes: number) => {
        pieces.push(bytes);
        return new Uint8Array(new SharedArrayBuffer(bytes));
      },
    };
    const hostSlots = Math.ceil((5 * 2 ** 30) / blockBytes);
    assert.equal(new TierMemory(kv, hostSlots, false).host.length, hostSlots);
    assert.equal(
      pieces.reduce((a, b) => a + b, 0),
      hostSlots * blockBytes,
    );
    assert.ok(pieces.every((bytes) => bytes <= 2 ** 30 && bytes % blockBytes === 0));
    runner.close();
  });
});

describe('host memory as the tier of the CUDA device', () => {
  it('a conversation whose blocks were given away goes on from host memory', async () => {
    const driver = new FakeDriver();
    const config = parseOptions(engineOptions, {
      ...{ sessionLen: 512, cacheBlockSeqLen: 16, cacheMaxEntryCount: 20, maxBatchSize: 2, maxPrefillTokenNum: 64 },
      ...{ cacheHost: '64MB', device: 'cuda' },
    });
    const failed: unknown[] = [];
    const data = { program: model.program, weights: model.source, config, fingerprint: '', modelKey: 'm' };
    const core = new Core(data, createCudaDevice({ driver, compile: fakeCompile }), {
      token: () => {},
      finished: () => {},
      failed: (_, e) => failed.push(e),
    });
    const turn = async (id: number, sessionId: string, said: number) => {
      core.batch.submit(request(id, sessionId, said));
      while (
        core.batch.step() ||
        core.batch.watching ||
        core.cache.ordersWaiting() + core.cache.ordersOutstanding() > 0
      )
        await new Promise(setImmediate);
    };
    await turn(1, 'a', 200);
    await turn(2, 'b', 200);
    assert.ok(core.cache.stats().blocksEvicted > 0, 'there was room for both');
    await turn(3, 'a', 10);
    const { tokensRestored, tokensRecomputed } = core.cache.stats();
    assert.deepEqual(failed, []);
    assert.ok(tokensRestored >= 64, `${tokensRestored} tokens came back`);
    assert.ok(tokensRecomputed <= 32, `${tokensRecomputed} tokens were computed again`);
    core.batch.check();
    await core.close();
  });
});

describe('whether KV is brought back', () => {
  it('is judged by the rate that the device measured, not by when the end of a copy was seen', async () => {
    const blockBytes = 1000;
    let done = false;
    const kv = {
      ...{ blockBytes, writeRate: 10_000, read: () => 0, write: () => 0, done: () => done },
      allocateHost: (bytes: number) => new Uint8Array(new SharedArrayBuffer(bytes)),
    };
    const orders: object[] = [{ id: 0, kind: 'load', node: 0, block: 0, host: 0, disk: -1 }];
    const cache = {
      takeOrders: (out: object[]) => {
        const n = orders.length;
        out.push(...orders.splice(0));
        return n;
      },
      orderDone: () => {},
    };
    const mover = new Mover(cache as never, { kv, sessionLen: 64, memory: new TierMemory(kv, 4, false), disk: null });
    assert.equal(mover.restoreMs({ host: 10, disk: 0 }), 1);
    mover.pump();
    // a long step, after which the end is seen
    await new Promise((resolve) => setTimeout(resolve, 30));
    done = true;
    mover.pump();
    assert.equal(mover.copying, false);
    assert.equal(mover.restoreMs({ host: 10, disk: 0 }), 1);
  });
});
