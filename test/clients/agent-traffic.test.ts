/**
 * A coding agent's sessions, as they were recorded, over the Messages API: what is found in the cache is what a perfect
 * prefix cache would find. The engine is the real one, over the device that computes nothing; the model's context is made
 * long enough for them.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { promptsOf, recordedSessions } from '../support/agent-traffic.js';
import { memoServer } from '../support/memo-server.js';
import { modelPath, withoutModel } from '../support/server-process.js';

/** Of the recorded lengths: whole ones take a minute. */
const SCALE = 1 / 16;
const CONTEXT = 2 ** 18;

/** The model's file with another context length. */
function withContext(file: string, length: number): Buffer {
  const bytes = readFileSync(file);
  const key = Buffer.from('llama.context_length');
  const at = bytes.indexOf(key) + key.length;
  assert.ok(at > key.length && bytes.readUInt32LE(at) === 4, 'the context length is no u32');
  bytes.writeUInt32LE(length, at + 4);
  return bytes;
}

/** Leading ids that two prompts have in common. */
function common(a: Int32Array, b: Int32Array): number {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  return i;
}

test('recorded sessions of a coding agent find at least 95% of what a perfect prefix cache gives', {
  skip: withoutModel,
}, async () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-agent-'));
  const model = path.join(dir, 'memo.gguf');
  writeFileSync(model, withContext(modelPath!, CONTEXT));
  try {
    await using rig = await memoServer({ model, device: 'null', cacheMaxEntryCount: 4096 }, { maxBodyBytes: 2 ** 26 });
    const anthropic = new Anthropic({ baseURL: rig.url, apiKey: 'none', maxRetries: 0 });
    // tokens of each prompt, from the engine's own side
    const prompts: Int32Array[] = [];
    const { engine } = rig;
    const chat = engine.chat.bind(engine);
    engine.chat = (request) => {
      asked = engine.encodeChat(request);
      return chat(request);
    };
    let asked: Promise<Int32Array> | null = null;

    const sessions = recordedSessions().map((s, i) => [...promptsOf(s, SCALE, 1, 10 + i)]);
    let [tokens, perfect, cached] = [0, 0, 0];
    // turn about: the agents work at the same time
    for (let turn = 0; turn < Math.max(...sessions.map((s) => s.length)); turn++) {
      for (const session of sessions) {
        const prompt = session[turn];
        if (!prompt) continue;
        const { usage } = await anthropic.messages.create({ model: 'memo', max_tokens: 4, ...prompt });
        const ids: Int32Array = await asked!;
        const read = usage.cache_read_input_tokens!;
        assert.equal(read + usage.input_tokens, ids.length);
        // the last token is always computed
        const best = Math.min(ids.length - 1, Math.max(0, ...prompts.map((p) => common(p, ids))));
        assert.ok(read <= best, `${read} of at most ${best}`);
        tokens += ids.length;
        perfect += best;
        cached += read;
        prompts.push(ids);
      }
    }
    const share = cached / perfect;
    console.log(JSON.stringify({ requests: prompts.length, tokens, perfect, cached, share: Number(share.toFixed(4)) }));
    assert.ok(perfect / tokens > 0.8, `${perfect} of ${tokens} tokens repeat others`);
    assert.ok(share >= 0.95, `${cached} of ${perfect} tokens`);
    await engine.check();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
