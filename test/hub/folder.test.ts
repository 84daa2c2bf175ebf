import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { listModels, type Plan, removeModel, resolveModel } from '../../src/hub/index.js';
import type { FakeHub } from './fake-hub.js';
import { createWorld, fails, partsLeft, type World } from './world.js';

let hub: FakeHub;
let cacheDir: string;
let options: World['options'];
const shard = randomBytes(200_000);
const plain = (text: string) => ({ bytes: Buffer.from(text), plain: true });

beforeEach(async () => {
  ({ hub, cacheDir, options } = await createWorld());
  hub.files = {
    'README.md': plain('hi'),
    'config.json': plain('{}'),
    'tokenizer.json': plain('{ }'),
    'model.safetensors.index.json': plain('{"weight_map":{}}'),
    'model-00001-of-00002.safetensors': { bytes: shard },
    'model-00002-of-00002.safetensors': { bytes: randomBytes(5000) },
    'consolidated.safetensors': { bytes: shard },
    'pytorch_model.bin': { bytes: shard },
    'modeling_evil.py': plain('print()'),
    'original/params.json': plain('{}'),
  };
});
afterEach(() => hub.close());

test('a repository without GGUF is fetched as a folder: only what is needed, once, listed and removed', async () => {
  const plans: Plan[] = [];
  const got = await resolveModel('hf:org/repo', { ...options, onPlan: (p) => void plans.push(p) });
  assert.deepEqual(readdirSync(got.path).sort(), [
    'config.json',
    'longmind-folder.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
    'tokenizer.json',
  ]);
  assert.deepEqual(readFileSync(path.join(got.path, 'model-00001-of-00002.safetensors')), shard);
  assert.deepEqual(plans, [{ file: 'org/repo', bytes: got.bytes, present: 0 }]);
  const requests = hub.log.length;
  assert.equal((await resolveModel('hf:org/repo:safetensors', { ...options, offline: true })).path, got.path);
  assert.equal((await resolveModel('hf:org/repo', options)).path, got.path);
  assert.equal(hub.log.length, requests);
  assert.deepEqual(listModels(options), [
    { ref: 'hf:org/repo:safetensors', path: got.path, bytes: got.bytes, sha256: '' },
  ]);
  assert.deepEqual(partsLeft(cacheDir), []);
  removeModel('hf:org/repo', options);
  assert.equal(existsSync(path.join(cacheDir, 'hf')), false);
});

test('an interrupted fetch of a folder goes on with the file that it was at', async () => {
  const stop = new AbortController();
  const first = resolveModel('hf:org/repo', {
    ...options,
    signal: stop.signal,
    onProgress: (p) => p.file.startsWith('model-00002') && stop.abort(new Error('interrupted')),
  });
  await assert.rejects(first, /interrupted/);
  assert.deepEqual(listModels(options), []);
  hub.log.length = 0;
  const got = await resolveModel('hf:org/repo', options);
  assert.equal(hub.log.filter((l) => /files GET \/model-00001/.test(l)).length, 0);
  assert.ok(got.bytes > 205_000);
});

test('a GGUF file goes before the folder, and the folder can be asked for', async () => {
  hub.files['m-Q8_0.gguf'] = { bytes: randomBytes(100) };
  assert.match((await resolveModel('hf:org/repo', options)).path, /m-Q8_0\.gguf$/);
  const folder = await resolveModel('hf:org/repo:safetensors', options);
  assert.ok(existsSync(path.join(folder.path, 'config.json')));
  // both are here now
  assert.match((await resolveModel('hf:org/repo', { ...options, offline: true })).path, /m-Q8_0\.gguf$/);
});

test('a wrong checksum of a shard leaves no model', async () => {
  hub.files['model-00002-of-00002.safetensors']!.wrongSha = '0'.repeat(64);
  await fails(resolveModel('hf:org/repo', options), 'checksum_mismatch');
  assert.deepEqual(listModels(options), []);
});

test('a repository of a LoRA adapter is fetched as one', async () => {
  const files = { 'adapter_config.json': plain('{"r": 8}'), 'adapter_model.safetensors': { bytes: shard } };
  hub.files = {
    ...files,
    'README.md': plain('hi'),
    'tokenizer.json': plain('{}'),
    'training_args.bin': { bytes: shard },
  };
  const got = await resolveModel('hf:org/repo', options);
  assert.deepEqual(readdirSync(got.path).sort(), [...Object.keys(files), 'longmind-folder.json']);
  assert.equal((await resolveModel('hf:org/repo', { ...options, offline: true })).path, got.path);
  removeModel('hf:org/repo', options);
  hub.files = { 'adapter_config.json': plain('{}'), 'adapter_model.bin': { bytes: shard } };
  await fails(resolveModel('hf:org/repo', options), 'model_unavailable', /pickled only/);
});

test('files that a list places outside the folder are not seen', async () => {
  for (const name of ['../evil.gguf', 'a/../../evil.gguf', '/evil.gguf', '..\\evil.gguf']) {
    hub.files = { [name]: { bytes: shard }, 'config.json': plain('{}') };
    await fails(resolveModel('hf:org/repo', options), 'model_unavailable', /no .gguf file/);
  }
  hub.files = { '../model.safetensors': { bytes: shard }, 'config.json': plain('{}') };
  await fails(resolveModel('hf:org/repo', options), 'model_unavailable', /no config.json with weights/);
  assert.deepEqual(listModels(options), []);
});

test('weights that are only pickled are refused by name', async () => {
  hub.files = { 'config.json': plain('{}'), 'pytorch_model.bin': { bytes: shard } };
  await fails(resolveModel('hf:org/repo', options), 'model_unavailable', /pickled only \('pytorch_model.bin'\)/);
});

test('a folder that the tools of the hub have fetched is used, if it is complete', async () => {
  const repo = path.join(cacheDir, 'hf-home', 'hub', 'models--org--repo');
  const snapshot = path.join(repo, 'snapshots', 'abc');
  mkdirSync(path.join(repo, 'refs'), { recursive: true });
  mkdirSync(snapshot, { recursive: true });
  writeFileSync(path.join(repo, 'refs', 'main'), 'abc');
  const put = (name: string) => writeFileSync(path.join(snapshot, name), '{}');
  for (const name of ['config.json', 'model.safetensors.index.json', 'model-00001-of-00002.safetensors']) put(name);
  await fails(resolveModel('hf:org/repo', { ...options, offline: true }), 'offline');
  put('model-00002-of-00002.safetensors');
  assert.equal((await resolveModel('hf:org/repo', { ...options, offline: true })).path, snapshot);
});

test('a folder of this machine is a model by its path', async () => {
  const folder = path.join(cacheDir, 'mine');
  mkdirSync(folder);
  writeFileSync(path.join(folder, 'config.json'), '{}');
  const got = await resolveModel(folder, options);
  assert.equal(got.path, folder);
  assert.equal(got.bytes, 2);
});
