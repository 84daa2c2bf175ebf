/** On a real model: a hit and a miss give the same bits (ARCHITECTURE.md). The long form is bench/hit-miss.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstDifference, openDelayed, runVariant, variants } from '../../src/bench/hit-miss.js';
import type { EngineConfig } from '../../src/config.js';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { type Device, kvBlockBytes, type LoadOptions, type Program, type Step } from '../../src/device/device.js';
import type { TensorSource } from '../../src/types.js';
import { openModelFile } from '../support/model-file.js';

const load = { sessions: 8, turns: 3, said: [30, 90] as [number, number], answered: 12, seed: 1 };

test('the same ids and log-probabilities, whatever the room, the company, the chunks, the blocks and the threads', async (t) => {
  const model = await openModelFile();
  if (!model) return t.skip('no real model can be had here: neither the bundled one nor the default one');
  const [first, ...others] = variants(load);
  const base = await runVariant(model, first!, load);
  assert.equal(base.answers.length, load.sessions * load.turns);
  assert.ok(
    new Set(base.answers.map((a) => a.tokens.join())).size > load.turns,
    'the answers depend on the conversation',
  );
  let preemptions = 0;
  for (const variant of others) {
    const run = await runVariant(model, variant, load);
    assert.equal(firstDifference(base, run), -1, variant.name);
    if (/disk for all/.test(variant.name))
      assert.ok(run.tokensRestored > 0, `${variant.name}: nothing was brought back`);
    else if (!variant.diskBlocks && /for one|an eighth/.test(variant.name)) {
      assert.ok(run.blocksEvicted > 0, `${variant.name}: nothing was evicted`);
      assert.ok(run.tokensRecomputed > 0, `${variant.name}: nothing was recomputed`);
    }
    preemptions += run.preemptions;
  }
  assert.ok(preemptions > 0, 'nothing was preempted');
});

test('the same, one step ahead of the device: what is planned while a step runs changes no bit', async (t) => {
  const model = await openModelFile();
  if (!model) return t.skip('no real model can be had here: neither the bundled one nor the default one');
  const base = await runVariant(model, variants(load)[0]!, load);
  for (const i of [0, 2, 5, 7]) {
    const variant = variants(load)[i]!;
    assert.equal(firstDifference(base, await runVariant(model, variant, load, openDelayed(2))), -1, variant.name);
  }
});

/** A device that changes the lowest bit of one K value of each token that came in a chunk of several: of the prefill path. */
function flawed(config: EngineConfig, headDim: number): Device {
  const device = createCpuDevice({ threads: config.threads || undefined, isa: config.isa });
  let options!: LoadOptions;
  const flip = (step: Step, row: number) => {
    const { kv, limits } = options;
    for (let t = step.rowStart[row]!; t < step.rowStart[row + 1]!; t++) {
      const position = step.positions[t]!;
      const column = step.rowSlot[row]! * limits.maxBlocksPerRow + Math.floor(position / kv.blockLen);
      const inBlock = position % kv.blockLen;
      // layer 0, head 0, K: tiles of 16 tokens, value 0 of each token first
      const inTile = Math.floor(inBlock / 16) * headDim * 32 + (inBlock % 16) * 2;
      device.native.flipKv(device.handle, step.blockTables[column]! * kvBlockBytes(kv) + inTile, 0);
    }
  };
  return new Proxy(device, {
    get(target, name) {
      if (name === 'load')
        return (p: Program, w: TensorSource, o: LoadOptions) => {
          options = o;
          return target.load(p, w, o);
        };
      if (name === 'submit')
        return (step: Step) => {
          const ticket = target.submit(step);
          for (let r = 0; r < step.rowCount; r++) if (step.rowStart[r + 1]! - step.rowStart[r]! > 1) flip(step, r);
          return ticket;
        };
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

test('the comparison sees a single bit: a flaw in the prefill path alone makes hit and miss differ', async (t) => {
  const model = await openModelFile();
  if (!model) return t.skip('no real model can be had here: neither the bundled one nor the default one');
  const [all, alone] = [variants(load)[1]!, variants(load)[4]!];
  const open = (config: EngineConfig) => flawed(config, model.program.dims.headDim);
  const hit = await runVariant(model, all, load, open);
  const miss = await runVariant(model, alone, load, open);
  assert.equal(hit.tokensRecomputed, 0);
  assert.ok(miss.tokensRecomputed > 0);
  assert.notEqual(firstDifference(hit, miss), -1);
});
