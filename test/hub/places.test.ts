/** Where models come from beside hub and packages, and where they go: addresses, folders that cannot be written. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { listModels, removeModel, resolveModel } from '../../src/hub/index.js';
import { parseReference } from '../../src/hub/reference.js';
import type { FakeHub } from './fake-hub.js';
import { createWorld, fails, model, other, root, type World } from './world.js';

let hub: FakeHub;
let cacheDir: string;
let options: World['options'];
let notes: string[];

beforeEach(async () => {
  ({ hub, cacheDir, options, notes } = await createWorld());
});
afterEach(() => hub.close());

test('pages and files of huggingface.co are references of the hub', () => {
  const select = (ref: string) => {
    const r = parseReference(ref);
    return r.kind === 'hf' ? [r.repo, r.select] : r.kind;
  };
  assert.deepEqual(select('https://huggingface.co/org/repo'), ['org/repo', null]);
  assert.deepEqual(select('https://huggingface.co/org/repo/tree/main'), ['org/repo', null]);
  assert.deepEqual(select('https://huggingface.co/org/repo/blob/main/sub/m-Q4_0.gguf'), [
    'org/repo',
    'sub/m-Q4_0.gguf',
  ]);
  assert.deepEqual(select('https://hf.co/org/repo/resolve/main/m.gguf?download=true'), ['org/repo', 'm.gguf']);
  assert.equal(select('https://example.org/m.gguf'), 'url');
  for (const bad of [
    'https://huggingface.co/',
    'https://example.org/page.html',
    'https://me:secret@example.org/m.gguf',
    'https://',
  ])
    assert.throws(() => parseReference(bad), /address of a \.gguf file/, bad);
});

test('a file at an address of its own is fetched once, listed, found offline and removed', async () => {
  const url = `${hub.endpoint}/org/repo/resolve/main/m-Q8_0.gguf`;
  const got = await resolveModel(url, options);
  assert.deepEqual(readFileSync(got.path), model);
  assert.deepEqual(
    listModels(options).map((m) => m.ref),
    [url],
  );
  const asked = hub.log.length;
  assert.equal((await resolveModel(url, { ...options, offline: true })).path, got.path);
  assert.equal(hub.log.length, asked);
  removeModel(url, options);
  assert.equal(existsSync(got.path), false);
  await fails(
    resolveModel(`${hub.endpoint}/org/repo/resolve/main/none.gguf`, options),
    'model_unavailable',
    /answered 404/,
  );
});

test('files of one name at different addresses are different models', async () => {
  const at = (file: string) => `${hub.endpoint}/org/repo/resolve/main/${file}`;
  const first = await resolveModel(at('m-Q4_0.gguf'), options);
  hub.files['b/m-Q4_0.gguf'] = { bytes: model };
  const second = await resolveModel(at('b/m-Q4_0.gguf'), options);
  assert.deepEqual([readFileSync(first.path), readFileSync(second.path)], [other, model]);
});

/** Options without cacheDir, for a user whose cache folder cannot be made. */
function homeless(): World['options'] {
  const TMPDIR = mkdtempSync(path.join(root, 'tmp-'));
  writeFileSync(path.join(TMPDIR, 'a-file'), '');
  return {
    ...options,
    cacheDir: undefined,
    env: { ...options.env, TMPDIR, XDG_CACHE_HOME: path.join(TMPDIR, 'a-file') },
  };
}

test('where the cache folder cannot be written, a temporary one of this user is used, and that is said', async () => {
  const options = homeless();
  const got = await resolveModel('hf:org/repo:Q8_0', options);
  const folder = path.join(options.env.TMPDIR!, `longmind-${process.getuid!()}`);
  assert.ok(got.path.startsWith(folder + path.sep), got.path);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.match(notes.join('\n'), /a-file\/longmind' cannot be written: .*--cache-dir/);
  // found there by the next one, listed, removed
  assert.equal((await resolveModel('hf:org/repo:Q8_0', { ...options, offline: true })).path, got.path);
  assert.equal(listModels(options).length, 1);
  removeModel('hf:org/repo:Q8_0', options);
  assert.equal(listModels(options).length, 0);
});

test('a temporary folder that others can write is not used', async () => {
  const options = homeless();
  const folder = path.join(options.env.TMPDIR!, `longmind-${process.getuid!()}`);
  mkdirSync(folder);
  chmodSync(folder, 0o777);
  const got = await resolveModel('hf:org/repo:Q8_0', options);
  assert.ok(!got.path.startsWith(folder + path.sep), got.path);
  rmSync(got.path);
});

test('a --cache-dir that cannot be written is an error that names the option, before anything is asked for', async () => {
  const file = path.join(root, 'no-folder');
  writeFileSync(file, '');
  await fails(
    resolveModel('hf:org/repo:Q8_0', { ...options, cacheDir: file }),
    'io_error',
    /no-folder' cannot be written.*--cache-dir/,
  );
  assert.deepEqual(hub.log, []);
});

test('what must be there beforehand is looked for before the network is asked', async () => {
  const beforeFetch = () => {
    throw new Error('no compiler');
  };
  await assert.rejects(resolveModel('hf:org/repo:Q8_0', { ...options, beforeFetch }), /no compiler/);
  assert.deepEqual(hub.log, []);
  assert.deepEqual(listModels({ cacheDir }), []);
});
