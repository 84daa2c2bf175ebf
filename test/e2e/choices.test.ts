/** `n` choices over HTTP with a real model: its prompt is computed once, and each choice is what it would be alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createEngine } from '../../src/index.js';
import { createServer } from '../../src/server/index.js';
import { smollmPath } from '../support/model.js';
import { bundledModelPath } from '../support/model-file.js';

const path = bundledModelPath() ?? (await smollmPath());
const skip = path === null ? 'SKIPPED: there is no model here' : false;

test('n choices compute their prompt once, with no prefix cache to help', { skip }, async (t) => {
  const engine = await createEngine({ model: path!, cacheMaxEntryCount: 64, enablePrefixCaching: false });
  t.after(() => engine.close());
  const server = await createServer(engine, { serverPort: 0, logLevel: 'silent' });
  t.after(() => server.close({ drainMs: 0 }));
  const computed = async () => (await engine.stats()).cache.tokensComputed;
  const ask = async (more: Record<string, unknown>) => {
    const before = await computed();
    const response = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        prompt: 'Once upon a time there was a small boat. '.repeat(12),
        max_tokens: 8,
        ignore_eos: true,
        temperature: 1,
        ...more,
      }),
    });
    const body = (await response.json()) as {
      choices: { text: string }[];
      usage: { prompt_tokens: number; completion_tokens: number };
    };
    assert.equal(response.status, 200, JSON.stringify(body));
    return { ...body, computed: (await computed()) - before };
  };
  const n = 6;
  const all = await ask({ n, seed: 40 });
  const { prompt_tokens: prompt, completion_tokens: generated } = all.usage;
  assert.equal(generated, n * 8);
  assert.ok(prompt > 64, `${prompt} tokens are more than a block`);
  // of each choice but the first the last token of the prompt; the last token of an answer is not computed
  assert.equal(all.computed, prompt + (n - 1) + n * 7);
  for (let i = 0; i < n; i++) {
    const alone = await ask({ seed: 40 + i });
    assert.equal(alone.computed, prompt + 7);
    assert.equal(all.choices[i]!.text, alone.choices[0]!.text);
  }
  await engine.check();
});
