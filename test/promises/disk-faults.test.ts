/**
 * On a real model, the whole engine over a disk that fails: the same ids and log-probabilities as without a disk, never an
 * error, no end of waiting, and the counters tell. The long form is bench:hit-miss --faults.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { AWAY, diskFaults, HERE, SILENT } from '../../src/bench/disk-faults.js';
import {
  faultVariants,
  firstDifference,
  type HitMissRun,
  runTwice,
  runVariant,
  variants,
} from '../../src/bench/hit-miss.js';
import { engineOptions, parseOptions } from '../../src/config.js';
import { EngineClient } from '../../src/engine/client.js';
import { createTokenizerClient } from '../../src/tokenizer/index.js';
import { readGguf } from '../../src/weights/index.js';
import { bundledModelPath, openFile, openModelFile } from '../support/model-file.js';

const load = { sessions: 3, turns: 3, said: [30, 90] as [number, number], answered: 6, seed: 5 };

/** What the counters of the first engine must say; the second one finds what it left. */
const told: Record<string, (t: NonNullable<HitMissRun['tiers']>, run: HitMissRun) => boolean> = {
  'torn writes': (t) => t.loadFailures > 0 && t.saveFailures === 0,
  'all writes torn, alone': (t, run) => t.loadFailures > 0 && run.tokensRestored === 0,
  'flipped bits': (t) => t.loadFailures > 0 && t.saveFailures === 0,
  'ENOSPC now and then': (t) => t.saveFailures > 0,
  'ENOSPC always': (t, run) => t.saveFailures > 0 && t.saves === 0 && run.tokensRestored === 0,
  'EIO always, alone': (t, run) => t.saveFailures > 0 && run.tokensRestored === 0,
  'away, and back': (t) => t.saves > 0 && t.saveFailures > 0,
};

test('a disk that fails in any way costs time alone', async (t) => {
  const model = await openModelFile();
  if (!model) return t.skip('no real model can be had here: neither the bundled one nor the default one');
  const base = await runVariant(model, variants(load)[0]!, load);
  const names = new Set<string>();
  for (const variant of faultVariants(load)) {
    const runs = await runTwice(model, variant, load);
    for (const [i, run] of runs.entries()) {
      assert.equal(firstDifference(base, run), -1, `${variant.name}, engine ${i + 1}`);
      const { saveFailures } = run.tiers!;
      const complained = run.problems.some((p) => /cannot be written/.test(p));
      assert.equal(complained, saveFailures > 0, `${variant.name}: ${saveFailures} failures, told: ${run.problems}`);
    }
    names.add(variant.name);
    const [first] = runs;
    assert.ok(told[variant.name]?.(first!.tiers!, first!) ?? true, `${variant.name}: ${JSON.stringify(first!.tiers)}`);
  }
  assert.deepEqual(
    Object.keys(told).filter((n) => !names.has(n)),
    [],
    'variants that are not there',
  );
});

test('seen from outside: a disk that goes away while its KV is being brought back, and does not answer at the end', async (t) => {
  const file = bundledModelPath();
  if (!file) return t.skip('the bundled model is not here');
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-faults-'));
  const faults = diskFaults({ delayMs: 1 });
  const set = (state: number) => {
    Atomics.store(faults.state, 0, state);
    Atomics.notify(faults.state, 0);
  };
  const gguf = readGguf(file);
  const { program, weights } = openFile(file);
  const tokenizer = createTokenizerClient(gguf.metadata, { modelVocab: program.dims.vocab });
  const options = { cacheDisk: `${dir}:64MiB`, cacheMaxEntryCount: 12, sessionLen: 512, cacheBlockSeqLen: 64 };
  const { client } = await EngineClient.start(
    {
      ...{ program, weights, config: parseOptions(engineOptions, options), fingerprint: '', modelKey: 'one' },
      diskProgram: { script: new URL('../../src/bench/faulty-disk.js', import.meta.url).href, data: faults },
    },
    tokenizer,
  );
  t.after(async () => {
    set(HERE);
    await client.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const problems: string[] = [];
  client.onProblem((p) => problems.push(p));
  const answers: string[][] = [[], [], [], []];
  for (const state of [HERE, AWAY, HERE, SILENT]) {
    set(state);
    const turn = async (s: number) => {
      const prompt = Array.from({ length: 60 }, (_, i) => 300 + ((i * 31 + s * 7) % 500));
      const options = { sessionId: `s${s}`, sessionAppend: true, maxTokens: 4, temperature: 0, ignoreEos: true };
      const { tokenIds, finishReason } = await client.complete({ prompt, ...options }).result();
      assert.equal(finishReason, 'length');
      answers[s]!.push(tokenIds.join());
    };
    await Promise.all(answers.map((_, s) => turn(s)));
    if (state !== SILENT) await saved(client);
  }
  const { tiers } = (await client.stats()).cache;
  assert.ok(tiers!.saves > 0 && tiers!.saveFailures > 0, JSON.stringify(tiers));
  assert.match(problems[0]!, /cannot be written: ENODEV/);
  await client.check();
});

async function saved(client: EngineClient): Promise<void> {
  for (;;) {
    const { tiers } = (await client.stats()).cache;
    if (tiers!.waiting + tiers!.outstanding === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
