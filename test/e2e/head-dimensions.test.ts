/** A model whose heads cannot be computed is refused by name, whoever opens it; one whose heads can answers. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { createEngine, inspectModel } from '../../src/index.js';
import { writeSmallLlama } from '../support/small-llama.js';
import { finish } from '../support/spawn.js';

const folder = mkdtempSync(path.join(tmpdir(), 'longmind-heads-'));
after(() => rmSync(folder, { recursive: true }));
const modelOf = (headDim: number) => writeSmallLlama(path.join(folder, `heads-${headDim}.gguf`), { headDim });
const small = ['--cache-max-entry-count', '16'];

for (const headDim of [16, 48, 80])
  test(`heads of ${headDim} dimensions work`, async () => {
    await using engine = await createEngine({ model: modelOf(headDim), cacheMaxEntryCount: 16 });
    const { tokenIds } = await engine.complete({ prompt: 'w300 w301', maxTokens: 8, ignoreEos: true }).result();
    assert.equal(tokenIds.length, 8);
    await engine.check();
  });

for (const headDim of [8, 24, 40, 72]) {
  const said = `its heads have ${headDim} dimensions; only multiples of 16 can be computed`;

  test(`heads of ${headDim} dimensions are refused by name: createEngine, inspectModel`, async () => {
    const refusal = { code: 'unsupported_model', message: new RegExp(said) };
    await assert.rejects(createEngine({ model: modelOf(headDim), cacheMaxEntryCount: 16 }), refusal);
    await assert.rejects(inspectModel(modelOf(headDim), { cacheMaxEntryCount: 16 }), refusal);
  });

  test(`heads of ${headDim} dimensions are refused by name: serve, inspect, generate`, async () => {
    const model = modelOf(headDim);
    const generate = ['generate', '-m', model, '-p', 'x', ...small];
    for (const argv of [
      ['serve', '-m', model, '--server-port', '0', ...small],
      ['inspect', model, ...small],
      generate,
    ]) {
      const { code, stdout, stderr } = await finish(argv);
      assert.equal(code, 1, argv[0]);
      assert.equal(stdout, '');
      assert.match(stderr, new RegExp(`^longmind: [^\\n]*${said}\\n$`), argv[0]);
    }
  });
}
