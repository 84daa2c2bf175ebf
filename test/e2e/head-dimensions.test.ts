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

const said = (headDim: number) => `its heads have ${headDim} dimensions; only multiples of 16 can be computed`;

for (const headDim of [8, 24, 40, 72]) {
  test(`heads of ${headDim} dimensions are refused by name: createEngine, inspectModel`, async () => {
    const refusal = { code: 'unsupported_model', message: new RegExp(said(headDim)) };
    await assert.rejects(createEngine({ model: modelOf(headDim), cacheMaxEntryCount: 16 }), refusal);
    await assert.rejects(inspectModel(modelOf(headDim), { cacheMaxEntryCount: 16 }), refusal);
  });
}

test('serve, inspect and generate say it in a line', async () => {
  const model = modelOf(72);
  const argvs = [
    ['serve', '-m', model, '--server-port', '0', ...small],
    ['inspect', model, ...small],
    ['generate', '-m', model, '-p', 'x', ...small],
  ];
  const ends = await Promise.all(argvs.map((argv) => finish(argv)));
  for (const { code, stdout, stderr } of ends) {
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, new RegExp(`^longmind: [^\\n]*${said(72)}\\n$`));
  }
});
