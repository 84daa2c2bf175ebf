/** An engine over a model folder: the same tokens as transformers, also when the KV was thrown away half-way. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { createEngine, type Engine, inspectModel } from '../../src/index.js';
import { type Fixture, readFixture, writeFolder } from './tiny.js';

const options = { maxBatchSize: 4, cacheBlockSeqLen: 16, threads: 1, speculation: 'off' } as const;
const GREEDY = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, ignoreEos: true };

async function tokensOf(engine: Engine, prompt: number[], maxTokens: number, sessionId?: string, append = false) {
  const out: number[] = [];
  const request = { ...GREEDY, prompt, maxTokens, sessionId, ...(append && { sessionAppend: true }) };
  for await (const { tokenId } of engine.complete(request)) out.push(tokenId);
  return out;
}

/** Tokens up to the first position where two are nearly as likely. */
function certain(f: Fixture, from: number, count: number): number[] {
  const out: number[] = [];
  for (let i = from; i < from + count && f.gap[i - 1]! > 0.005; i++) out.push(f.ids[i]!);
  return out;
}

/** A session of the prompt, others that need the room, and the session again. */
async function evictedHalfway(folder: string, f: Fixture, blocks: number) {
  const engine = await createEngine({ ...options, model: folder, cacheMaxEntryCount: blocks });
  try {
    const first = await tokensOf(engine, f.ids.slice(0, f.prompt), 11, 's');
    for (let i = 0; i < 3; i++) await tokensOf(engine, f.ids.slice(i, 60 + i).reverse(), 10);
    const rest = await tokensOf(engine, [f.ids[f.prompt + 11]!], 12, 's', true);
    return { first, rest, recomputed: (await engine.stats()).tokens.recomputed };
  } finally {
    await engine.close();
  }
}

for (const name of [
  'llama3-scaled',
  'qwen3',
  'gemma3',
  'olmo2',
  'phi3-longrope',
  'smollm3',
  'mixtral',
  'qwen2-moe',
  'qwen3-moe',
  'olmoe',
]) {
  describe(name, () => {
    const f = readFixture(name);
    const folder = writeFolder(f);
    it('goes on as transformers does, whether its KV was kept or thrown away', async () => {
      const [hit, miss] = await Promise.all([40, 8].map((blocks) => evictedHalfway(folder, f, blocks)));
      assert.equal(hit!.recomputed, 0);
      assert.ok(miss!.recomputed > 0, 'nothing was thrown away');
      assert.deepEqual(miss, { ...hit, recomputed: miss!.recomputed });
      const want = certain(f, f.prompt, 11);
      assert.ok(want.length > 0, 'its first token is a tie');
      assert.deepEqual(hit!.first.slice(0, want.length), want);
      // what follows another token than transformers' is another text
      if (want.length < 11) return;
      const after = certain(f, f.prompt + 12, 12);
      assert.deepEqual(hit!.rest.slice(0, after.length), after);
    });
  });
}

describe('a folder', () => {
  const f = readFixture('qwen2');
  it('is inspected, and takes less memory with weights of 8 and 4 bits', async () => {
    const folder = writeFolder(f);
    const bytes = async (weights: string) =>
      (await inspectModel(folder, { ...options, cacheMaxEntryCount: 8, weights })).memory.weightBytes;
    const [file, q8, q4] = [await bytes('file'), await bytes('q8'), await bytes('q4')];
    assert.ok(q8 < file && q4 < q8, `${file} ${q8} ${q4}`);
    const about = await inspectModel(folder, { ...options, cacheMaxEntryCount: 8 });
    assert.equal(about.architecture, 'qwen2');
    assert.equal(about.quantisation.name, 'BF16');
  });
  it('without a chat template is told what was taken instead', async () => {
    const notes: string[] = [];
    const onNote = (note: string) => notes.push(note);
    const engine = await createEngine({ ...options, model: writeFolder(f), cacheMaxEntryCount: 8, onNote });
    await engine.close();
    assert.match(notes.join('\n'), /brings no chat template; taken instead: 'role: content' lines/);
  });
  it("brings its makers' advice, its chat template and its end tokens", async () => {
    const folder = writeFolder(f);
    fs.writeFileSync(
      path.join(folder, 'generation_config.json'),
      JSON.stringify({ temperature: 0.3, top_k: 7, top_p: 0.8, repetition_penalty: 1.05, eos_token_id: [2, 17] }),
    );
    fs.writeFileSync(
      path.join(folder, 'tokenizer_config.json'),
      JSON.stringify({ bos_token: '<s>', eos_token: { content: '</s>' }, chat_template: 'never used' }),
    );
    fs.writeFileSync(path.join(folder, 'chat_template.jinja'), "{% for m in messages %}{{ '<s>' }}{% endfor %}");
    const engine = await createEngine({ ...options, model: folder, cacheMaxEntryCount: 8 });
    try {
      assert.deepEqual(engine.info.generationDefaults, {
        temperature: 0.3,
        topK: 7,
        topP: 0.8,
        repetitionPenalty: 1.05,
      });
      assert.deepEqual([...(await engine.encode('<s></s>', { special: true }))], [1, 2]);
      let tokens = 0;
      const chat = engine.chat({ messages: [{ role: 'user', content: 'x' }], maxTokens: 3, ignoreEos: true });
      for await (const _ of chat) tokens++;
      assert.equal(tokens, 3);
    } finally {
      await engine.close();
    }
  });
});
