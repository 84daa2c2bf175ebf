import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { listModels, type Plan, removeModel, resolveModel } from '../../src/hub/index.js';
import { type FakeHub, sha256 } from './fake-hub.js';
import { createWorld, fails, model, other, partsLeft, type World } from './world.js';

let hub: FakeHub;
let cacheDir: string;
let options: World['options'];
let notes: string[];

beforeEach(async () => {
  ({ hub, cacheDir, options, notes } = await createWorld());
});
afterEach(() => hub.close());

test('a file of the hub is fetched once, checked, recorded, listed and removed', async () => {
  const plans: Plan[] = [];
  const seen: number[] = [];
  const got = await resolveModel('hf:org/repo:Q8_0', {
    ...options,
    onPlan: (p) => void plans.push(p),
    onProgress: (p) => {
      assert.equal(p.total, model.length);
      seen.push(p.received);
    },
  });
  assert.deepEqual(readFileSync(got.path), model);
  assert.deepEqual(plans, [{ file: 'm-Q8_0.gguf', bytes: model.length, present: 0 }]);
  assert.equal(seen.at(-1), model.length);
  assert.equal(got.source, 'hf:org/repo:m-Q8_0.gguf');
  const requests = hub.log.length;
  assert.equal((await resolveModel('hf:org/repo:q8_0', options)).path, got.path);
  assert.equal((await resolveModel('hf:org/repo', { ...options, offline: true })).path, got.path);
  assert.equal(hub.log.length, requests);
  assert.deepEqual(listModels(options), [
    { ref: got.source, path: got.path, bytes: model.length, sha256: sha256(model) },
  ]);
  assert.deepEqual(partsLeft(cacheDir), []);
  assert.equal(removeModel('hf:org/repo:Q8_0', options).path, got.path);
  assert.deepEqual(listModels(options), []);
  assert.equal(existsSync(path.join(cacheDir, 'hf')), false);
  assert.throws(() => removeModel('hf:org/repo:Q8_0', options), /model_not_cached|not among the fetched/);
});

test('a cut connection is taken up where it broke', async () => {
  hub.cut = { after: 100_000, times: 2 };
  const got = await resolveModel('hf:org/repo:Q8_0', options);
  assert.deepEqual(readFileSync(got.path), model);
  const ranges = hub.log.filter((l) => l.startsWith('files')).map((l) => /range=(\S*)/.exec(l)![1]);
  assert.deepEqual(ranges, ['', 'bytes=100000-', 'bytes=200000-']);
  assert.match(notes.join('\n'), /trying again/);
});

test('an interrupted fetch goes on in the next run', async () => {
  hub.cut = { after: 120_000, times: 1 };
  const stop = new AbortController();
  const first = resolveModel('hf:org/repo:Q8_0', {
    ...options,
    signal: stop.signal,
    onProgress: (p) => p.received >= 120_000 && stop.abort(new Error('interrupted')),
  });
  await assert.rejects(first, /interrupted/);
  assert.equal(listModels(options).length, 0);
  const plans: Plan[] = [];
  const got = await resolveModel('hf:org/repo:Q8_0', { ...options, onPlan: (p) => void plans.push(p) });
  const { present } = plans[0]!;
  assert.ok(present >= 120_000 && present < model.length, `${present} bytes`);
  assert.deepEqual(readFileSync(got.path), model);
  assert.match(hub.log.at(-1)!, new RegExp(`range=bytes=${present}-`));
});

test('what was left of another version is not used', async () => {
  hub.cut = { after: 120_000, times: 99 };
  const stop = new AbortController();
  await assert.rejects(
    resolveModel('hf:org/repo:Q8_0', {
      ...options,
      signal: stop.signal,
      onProgress: (p) => p.received >= 120_000 && stop.abort(),
    }),
  );
  const changed = randomBytes(model.length);
  hub.files['m-Q8_0.gguf'] = { bytes: changed };
  hub.cut.times = 0;
  const got = await resolveModel('hf:org/repo:Q8_0', options);
  assert.deepEqual(readFileSync(got.path), changed);
});

test('a server without ranges is read from the beginning again', async () => {
  hub.noRanges = true;
  hub.cut = { after: 100_000, times: 1 };
  const got = await resolveModel('hf:org/repo:Q8_0', options);
  assert.deepEqual(readFileSync(got.path), model);
});

test('a wrong checksum is an error and leaves nothing behind', async () => {
  hub.files['m-Q8_0.gguf'] = { bytes: model, wrongSha: 'ab'.repeat(32) };
  await fails(resolveModel('hf:org/repo:Q8_0', options), 'checksum_mismatch', /expected abab/);
  assert.deepEqual(partsLeft(cacheDir), []);
  assert.deepEqual(listModels(options), []);
});

test('where the list has no checksum, the first answer names it', async () => {
  hub.files['m-Q8_0.gguf'] = { bytes: model, plain: true };
  await resolveModel('hf:org/repo:Q8_0', options);
  assert.equal(listModels(options)[0]!.sha256, sha256(model));
  assert.ok(hub.log.some((l) => l.startsWith('hub HEAD')));
});

test('the token goes to the hub and never to where it redirects', async () => {
  hub.token = 'secret';
  await fails(resolveModel('hf:org/repo:Q8_0', options), 'model_unavailable', /401.*needs a token in HF_TOKEN/s);
  await fails(
    resolveModel('hf:org/repo:Q8_0', { ...options, env: { ...options.env, HF_TOKEN: 'bad' } }),
    'model_unavailable',
    /HF_TOKEN may not read it/,
  );
  await resolveModel('hf:org/repo:Q8_0', { ...options, env: { ...options.env, HF_TOKEN: 'secret' } });
  const files = hub.log.filter((l) => l.startsWith('files'));
  assert.ok(files.length > 0 && files.every((l) => l.endsWith('auth=')));
});

test('a model in parts is fetched whole, listed once, found again by any part, and removed whole', async () => {
  const [first, second] = ['big-F16-00001-of-00002.gguf', 'big-F16-00002-of-00002.gguf'];
  const got = await resolveModel('hf:org/repo:F16', options);
  assert.equal(path.basename(got.path), first);
  assert.equal(got.bytes, 2 * other.length);
  assert.deepEqual(readFileSync(path.join(path.dirname(got.path), second)), other);
  assert.deepEqual(
    listModels(options).map((m) => [m.ref, m.bytes]),
    [[`hf:org/repo:${first}`, got.bytes]],
  );
  const again = await resolveModel(`hf:org/repo:${second}`, { ...options, offline: true });
  assert.equal(again.path, got.path);
  assert.equal((await resolveModel(got.path, options)).bytes, got.bytes);
  removeModel('hf:org/repo:F16', options);
  assert.equal(existsSync(path.join(cacheDir, 'hf')), false);
});

test('what is not there, is ambiguous or split says so', async () => {
  await fails(resolveModel('hf:org/none', options), 'model_unavailable', /404.*no such repository.*Give a local file/s);
  await fails(resolveModel('hf:org/repo:Q2_K', options), 'model_unavailable', /no 'Q2_K' \(it has m-Q8_0.gguf/);
  await fails(resolveModel('hf:org/repo:x.gguf', options), 'model_unavailable', /no file 'x.gguf'/);
  delete hub.files['big-F16-00002-of-00002.gguf'];
  const missing = /no 'big-F16-00002-of-00002.gguf', a part of/;
  await fails(resolveModel('hf:org/repo:F16', options), 'model_unavailable', missing);
  hub.files['n-Q4_0.gguf'] = { bytes: other };
  await fails(
    resolveModel('hf:org/repo:Q4_0', options),
    'model_unavailable',
    /several files match: m-Q4_0.gguf, n-Q4_0.gguf/,
  );
  hub.refuse = 403;
  await fails(resolveModel('hf:org/repo:Q8_0', options), 'model_unavailable', /answered 403/);
});

test('a quantisation or a file is found in its folder, however it is written', async () => {
  assert.match((await resolveModel('hf:org/repo:Q6_K', options)).path, /sub\/m\.q6_k\.gguf$/);
  assert.match((await resolveModel('hf:org/repo:m-Q4_0.gguf', options)).path, /m-Q4_0\.gguf$/);
});

test('offline, nothing is asked for; what the hub tools have fetched is used', async () => {
  await fails(resolveModel('hf:org/repo:Q8_0', { ...options, offline: true }), 'offline');
  const repo = path.join(options.env.HF_HOME!, 'hub', 'models--org--repo');
  mkdirSync(path.join(repo, 'snapshots', 'abc'), { recursive: true });
  mkdirSync(path.join(repo, 'blobs'));
  mkdirSync(path.join(repo, 'refs'));
  writeFileSync(path.join(repo, 'refs', 'main'), 'abc');
  writeFileSync(path.join(repo, 'blobs', sha256(model)), model);
  symlinkSync(path.join('..', '..', 'blobs', sha256(model)), path.join(repo, 'snapshots', 'abc', 'm-Q8_0.gguf'));
  const got = await resolveModel('hf:org/repo:Q8_0', { ...options, offline: true });
  assert.deepEqual(readFileSync(got.path), model);
  const elsewhere = { ...options.env, HF_HOME: '/nowhere', HF_HUB_CACHE: path.dirname(repo) };
  assert.equal((await resolveModel('hf:org/repo:Q8_0', { ...options, offline: true, env: elsewhere })).path, got.path);
  assert.equal(hub.log.length, 0);
});

test('whoever refuses the plan gets nothing fetched', async () => {
  const onPlan = (): void => {
    throw new LongmindError('refused', 400, 'too large');
  };
  await fails(resolveModel('hf:org/repo:Q8_0', { ...options, onPlan }), 'refused');
  assert.ok(!hub.log.some((l) => l.startsWith('files')));
});

test('two at a time fetch it once', async () => {
  const both = await Promise.all([
    resolveModel('hf:org/repo:Q8_0', options),
    resolveModel('hf:org/repo:Q8_0', options),
  ]);
  assert.equal(both[0].path, both[1].path);
  assert.equal(hub.log.filter((l) => l.startsWith('files GET')).length, 1);
});

test('a hub that does not answer is given up within seconds', { timeout: 20_000 }, async () => {
  const silent = net.createServer();
  await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
  const port = (silent.address() as net.AddressInfo).port;
  silent.close();
  const start = performance.now();
  await fails(
    resolveModel('hf:org/repo', { ...options, env: { ...options.env, HF_ENDPOINT: `http://127.0.0.1:${port}` } }),
    'model_unavailable',
    /ECONNREFUSED/,
  );
  // nobody routes 192.0.2.0/24 (RFC 5737): the connection hangs, or is refused at once by this machine
  await fails(
    resolveModel('hf:org/repo', { ...options, env: { ...options.env, HF_ENDPOINT: 'http://192.0.2.1' } }),
    'model_unavailable',
  );
  assert.ok(performance.now() - start < 8000);
});
