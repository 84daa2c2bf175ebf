/** What a user without a usable GPU is told, and what `--device auto` does then. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { createCudaDevice, findCuda } from '../../../src/device/cuda/index.js';
import { openDriver } from '../../../src/device/cuda/koffi-driver.js';
import { chooseDevice } from '../../../src/devices.js';
import { splitMemory } from '../../../src/engine/memory.js';
import { FakeDriver } from './fake-driver.js';

const unavailable = (message: RegExp) => ({ code: 'cuda_unavailable', message });
const old = () => Object.assign(new FakeDriver(), { version: 11080 });
const turing = () => {
  const driver = new FakeDriver();
  driver.info = { ...driver.info, name: 'Tesla T4', capability: 75 };
  return driver;
};

describe('one clear message for', () => {
  it('no driver', () => {
    assert.throws(() => openDriver('libcuda-that-is-not-here.so.1'), unavailable(/no NVIDIA driver.*--device cpu/));
  });

  it('a driver that is too old', () => {
    const message = unavailable(/driver is too old: it is for CUDA 11\.8, and one for CUDA 12\.0 or newer is needed/);
    assert.throws(() => findCuda(old()), message);
    assert.throws(() => createCudaDevice({ driver: old() }), message);
  });

  it('no NVRTC', (t) => {
    const empty = mkdtempSync(path.join(tmpdir(), 'longmind-nvrtc-'));
    const before = process.env.LONGMIND_NVRTC;
    t.after(() => {
      rmSync(empty, { recursive: true });
      if (before === undefined) delete process.env.LONGMIND_NVRTC;
      else process.env.LONGMIND_NVRTC = before;
    });
    process.env.LONGMIND_NVRTC = empty;
    const message = unavailable(/NVRTC.* is not here .*LONGMIND_NVRTC.*pip install nvidia-cuda-nvrtc/);
    assert.throws(() => createCudaDevice({ driver: new FakeDriver() }), message);
  });

  it('memory that does not suffice: weights, workspace and KV cache', () => {
    const kv = { layers: 32, kvHeads: 8, headDim: 128, blockLen: 64, bits: 16 } as const;
    const size = { kind: 'share', share: 0.8 } as const;
    const input = { room: { free: 12e9, promised: 0 }, weightBytes: 15e9, workspaceBytes: 1e9, kv, size };
    assert.throws(() => splitMemory(input), {
      code: 'not_enough_memory',
      message: /weights 1[45].*, workspace .*, KV cache .*needs .*but .* available/,
    });
  });
});

describe('--device auto', () => {
  const nvrtc = { env: { ...process.env, LONGMIND_NVRTC: '/nowhere' }, offline: true };
  const choose = async (device: string, driver: () => FakeDriver) => {
    const notes: string[] = [];
    const hub = { ...nvrtc, onNote: (note: string) => notes.push(note) };
    return { ...(await chooseDevice({ device }, '', hub, () => findCuda(driver()))), notes };
  };

  it('is the CPU, and says why, where CUDA lacks something', async () => {
    const none = () => Object.assign(new FakeDriver(), { gpus: () => [] });
    const lacks: [() => FakeDriver, RegExp][] = [
      [old, /too old/],
      [turing, /7\.5/],
      [none, /no GPU/],
      [() => new FakeDriver(), /NVRTC.*--offline/s],
    ];
    for (const [driver, why] of lacks) {
      const { device, notes } = await choose('auto', driver);
      assert.equal(device, 'cpu');
      assert.match(notes.join(), why);
      assert.match(notes.join(), /using the CPU/);
      await assert.rejects(choose('cuda', driver), unavailable(why));
    }
    await assert.rejects(
      choose('cuda:3', () => new FakeDriver()),
      { code: 'invalid_option' },
    );
  });

  it('is the first GPU where there is one', async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'longmind-nvrtc-'));
    t.after(() => rmSync(folder, { recursive: true }));
    for (const name of ['libnvrtc.so.13', 'libnvrtc-builtins.so.13.0']) writeFileSync(path.join(folder, name), '');
    const hub = { env: { LONGMIND_NVRTC: folder }, offline: true };
    const chosen = await chooseDevice({ device: 'auto' }, '', hub, () => findCuda(new FakeDriver()));
    assert.equal(chosen.device, 'cuda:0');
  });
});
