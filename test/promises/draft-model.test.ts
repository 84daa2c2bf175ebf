/** A draft model beside the model, from the options to the answer: it changes speed only. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { engineOptions, parseOptions } from '../../src/config.js';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { createNullDevice } from '../../src/device/null/index.js';
import { Core } from '../../src/engine/core.js';
import { openDraft } from '../../src/engine/draft.js';
import { errors } from '../../src/errors.js';
import { type CreateOptions, createEngine, inspectModel } from '../../src/index.js';
import { metadataStrings } from '../../src/tokenizer/metadata.js';
import { readGguf } from '../../src/weights/index.js';
import { program, request } from '../support/core.js';
import { bundledModelPath, openFile, root } from '../support/model-file.js';

const memo = bundledModelPath()!;
const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-draft-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** `memo` with its bytes changed. */
function changed(name: string, change: (bytes: Buffer) => void): string {
  const bytes = readFileSync(memo);
  change(bytes);
  const file = path.join(dir, name);
  writeFileSync(file, bytes);
  return file;
}

/** Weights of the right size that say nothing: every token has the embedding of another. */
const scrambled = (): string =>
  changed('scrambled.gguf', (bytes) => {
    const { offset, byteLength, shape } = readGguf(memo).tensors.get('token_embd.weight')!;
    const row = byteLength / shape[1]!;
    const data = bytes.subarray(offset, offset + byteLength);
    data.set(Buffer.concat([data.subarray(97 * row), data.subarray(0, 97 * row)]));
  });

const otherVocabulary = (): string =>
  changed('other.gguf', (bytes) => {
    const token = metadataStrings(readGguf(memo).metadata, 'tokenizer.ggml.tokens')!.at(700)!;
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(Buffer.byteLength(token)));
    const at = bytes.indexOf(Buffer.concat([length, Buffer.from(token)]));
    bytes[at + 8] = '~'.charCodeAt(0);
  });

const prompts = ['My name is Zorvane and I live in Kelmora.', 'Where do I live?', 'Tell me all that you know of me.'];

async function converse(options: CreateOptions) {
  await using engine = await createEngine({ model: 'memo', cacheMaxEntryCount: 100, ...options });
  const said: unknown[] = [];
  for (const [i, content] of [...prompts, ...prompts].entries()) {
    const temperature = i < 3 ? 0 : 1;
    const sessionId = `s${temperature}`;
    const limits = { maxTokens: 100, minTokens: 80, ...(i === 2 ? { frequencyPenalty: 0.3 } : {}) };
    const chat = engine.chat({
      messages: [{ role: 'user', content }],
      sessionId,
      sessionAppend: true,
      ...{ temperature, seed: 7, logprobs: 2 },
      ...limits,
    });
    const { tokenIds, logprobs } = await chat.result();
    said.push([tokenIds, logprobs]);
  }
  await engine.check();
  const stats = await engine.stats();
  return { said, byModel: stats.drafts.byModel!, info: engine.info };
}

test('the same ids and log-probabilities without a draft model, with a perfect and a useless one', async () => {
  const off = await converse({ speculation: 'off' });
  const perfect = await converse({ draftModel: 'memo' });
  const useless = await converse({ draftModel: scrambled() });
  assert.deepEqual(perfect.said, off.said);
  assert.deepEqual(useless.said, off.said);
  assert.equal(off.info.draftModel, null);
  assert.equal(perfect.info.draftModel!.modelName, perfect.info.modelName);
  assert.ok(perfect.info.draftModel!.memory.weightBytes > 0 && perfect.info.draftModel!.memory.kvBytes > 0);
  const { verified, accepted } = perfect.byModel;
  // it pays in steps alone, so how often it is asked is a matter of what the machine measures; what lies behind an end is lost
  assert.ok(verified > 0 && accepted > verified / 2, `${accepted} of ${verified}`);
  assert.ok(useless.byModel.accepted <= useless.byModel.verified / 2, JSON.stringify(useless.byModel));
});

test('a model that guesses for itself is right, greedy and drawn, and saves steps', async () => {
  const model = openFile(memo);
  const prompt = Array.from(readFileSync(path.join(root, 'README.md')).subarray(0, 60), (byte) => 3 + byte);
  const play = async (temperature: number, speculation: 'auto' | 'off') => {
    const sizes = { cacheMaxEntryCount: 40, sessionLen: 512, maxPrefillTokenNum: 64 };
    const config = parseOptions(engineOptions, { ...sizes, speculation });
    const draft = speculation === 'off' ? null : openDraft(model, config, 512, createCpuDevice({}), {}, () => 0);
    const drawn: unknown[] = [];
    const events = {
      token: (_: unknown, token: number, logprob: unknown) => drawn.push([token, logprob]),
      finished() {},
      failed: (_: number, e: Error) => assert.fail(e),
    };
    const data = { ...model, config, fingerprint: '', modelKey: '' };
    const core = new Core(data, createCpuDevice({}), events, {}, draft);
    const r = request(1, prompt, null);
    const sampling = { ...r.sampling, temperature, logprobs: 3 };
    core.batch.submit({ ...r, sampling, limits: { ...r.limits, maxTokens: 150 } });
    while (core.batch.step());
    core.batch.check();
    draft?.check();
    const { steps, drafts } = core.stats();
    await core.close();
    return { drawn, steps, byModel: drafts.byModel! };
  };
  for (const temperature of [0, 1]) {
    const off = await play(temperature, 'off');
    const auto = await play(temperature, 'auto');
    assert.deepEqual(auto.drawn, off.drawn);
    assert.equal(off.drawn.length, 150);
    const { verified, accepted } = auto.byModel;
    assert.equal(accepted, verified, 'a model knows what it would say itself');
    assert.ok(auto.steps < off.steps, `${auto.steps} steps, ${off.steps} without`);
    assert.ok(accepted > 0);
  }
});

test('a draft model of another vocabulary, or none at all, is refused by name', async () => {
  const other = otherVocabulary();
  await assert.rejects(createEngine({ model: 'memo', draftModel: other }), (e: Error & { code: string }) => {
    assert.equal(e.code, 'invalid_option');
    assert.match(e.message, /draftModel.*memo\.gguf.*token 700 is.*other\.gguf/);
    return true;
  });
  const missing = path.join(dir, 'missing.gguf');
  await assert.rejects(createEngine({ model: 'memo', draftModel: missing }), { code: 'file_missing' });
});

test('told to look things up only, or nothing, no draft model is loaded, and that is said', async () => {
  for (const speculation of ['lookup', 'off']) {
    const notes: string[] = [];
    const onNote = (note: string) => notes.push(note);
    await using engine = await createEngine({ model: 'memo', device: 'null', draftModel: 'memo', speculation, onNote });
    assert.equal(engine.info.draftModel, null);
    assert.match(notes.join('\n'), /draft model 'memo' is not loaded/);
  }
});

const weights = { path: '', tensors: new Map() };

test('what the draft model takes is not there for the model’s KV cache', async () => {
  const config = parseOptions(engineOptions, { device: 'null', cacheMaxEntryCount: 0.5 });
  const events = { token() {}, finished() {}, failed() {} };
  const data = { program, weights, config, fingerprint: '', modelKey: '' };
  const alone = new Core(data, createNullDevice({ memoryFree: 2 ** 26 }), events);
  const draft = openDraft({ program, weights }, config, 1024, createNullDevice({ memoryFree: 2 ** 26 }));
  const both = new Core(data, createNullDevice({ memoryFree: 2 ** 26 }), events, {}, draft);
  const { kvBytes, workspaceBytes, kvBlocks } = both.info.draft!;
  // four sessions of full length
  assert.equal(kvBlocks, 4 * (1024 / 64));
  assert.equal(both.info.memory.freeBytes, alone.info.memory.freeBytes - kvBytes - workspaceBytes);
  assert.ok(both.info.memory.kvBlocks < alone.info.memory.kvBlocks);
  await Promise.all([alone.close(), both.close()]);
});

test('after a failure of our own code the draft model goes on too, from nothing', async () => {
  const config = parseOptions(engineOptions, { device: 'null', maxPrefillTokenNum: 64 });
  const draft = openDraft({ program, weights }, config, 1024, createNullDevice());
  const out = new Map<number, number[]>();
  const failed: number[] = [];
  const events = {
    token: (r: { id: number }, token: number) => out.get(r.id)!.push(token),
    finished() {},
    failed: (id: number) => failed.push(id),
  };
  const data = { program, weights, config, fingerprint: '', modelKey: '' };
  const core = new Core(data, createNullDevice(), events, {}, draft);
  const submit = (id: number) => {
    out.set(id, []);
    const limits = { ...request(id, [], null).limits, maxTokens: 90 };
    core.batch.submit({ ...request(id, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14], 'a'), limits });
  };
  submit(1);
  while (out.get(1)!.length < 20) core.batch.step();
  core.restart(errors.engineFailed('a bug'));
  assert.deepEqual(failed, [1]);
  submit(2);
  while (core.batch.step());
  core.batch.check();
  draft.check();
  assert.deepEqual(out.get(2)!.slice(0, 20), out.get(1)!.slice(0, 20));
  assert.equal(out.get(2)!.length, 90);
  await core.close();
});

test('too little memory for the draft model is a typed error, and its device is closed', () => {
  const config = parseOptions(engineOptions, { device: 'null' });
  const device = createNullDevice({ memoryFree: 50_000 });
  let closed = false;
  const watched = Object.assign(Object.create(device), { close: () => (closed = true) });
  assert.throws(() => openDraft({ program, weights }, config, 1024, watched), { code: 'not_enough_memory' });
  assert.ok(closed);
});

test('inspecting counts the memory of the draft model, as loading does', async () => {
  const options = { draftModel: 'memo', cacheMaxEntryCount: 0.5, sessionLen: 512 };
  const { memory, draftModel } = await inspectModel('memo', options);
  const d = draftModel!.memory;
  assert.equal(draftModel!.modelName, 'memo');
  assert.ok(d.weightBytes > 0 && d.workspaceBytes > 0 && d.kvBytes > 0);
  assert.equal(memory.freeBytes, d.freeBytes - d.weightBytes - d.workspaceBytes - d.kvBytes);
  await using engine = await createEngine({ model: 'memo', ...options });
  const { weightBytes, workspaceBytes, kvBlocks } = engine.info.draftModel!.memory;
  assert.deepEqual([d.weightBytes, d.workspaceBytes, d.kvBlocks], [weightBytes, workspaceBytes, kvBlocks]);
  assert.equal((await inspectModel('memo', { ...options, draftModel: '' })).draftModel, null);
  await assert.rejects(inspectModel('memo', { draftModel: otherVocabulary() }), { code: 'invalid_option' });
});
