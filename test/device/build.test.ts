/** The native library: found, refused, and the messages a newcomer sees. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildNativeLibrary } from '../../src/device/cpu/build.js';
import { ABI } from '../../src/device/cpu/layout.js';
import { cpuQuota, defaultThreads, memoryFree } from '../../src/device/cpu/machine.js';
import { loadNative } from '../../src/device/cpu/native.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-build-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

const dist = fileURLToPath(new URL('../../src/', import.meta.url));

/** Runs buildNativeLibrary, of the code in `from`, in a process that finds only the programs in `bin`. */
function build(
  into: string | undefined,
  bin: string,
  from = dist,
  env: Record<string, string> = {},
): { path?: string; code?: string; message?: string } {
  const url = pathToFileURL(path.join(from, 'device/cpu/build.js')).href;
  const script = `import { buildNativeLibrary } from ${JSON.stringify(url)};
    try { console.log(JSON.stringify({ path: buildNativeLibrary(undefined, ${JSON.stringify(into)}) })); }
    catch (e) { console.log(JSON.stringify({ code: e.code, message: e.message })); }`;
  const r = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: { PATH: bin, ...env },
  });
  return JSON.parse(r.stdout) as ReturnType<typeof build>;
}

describe('the native library', () => {
  const built = buildNativeLibrary();
  const empty = path.join(folder, 'no-programs');
  fs.mkdirSync(empty);

  it('is not built twice', () => {
    const lines: string[] = [];
    assert.equal(
      buildNativeLibrary((line) => lines.push(line)),
      built,
    );
    assert.deepEqual(lines, []);
  });

  it('one that was made from another table of steps or numbers is refused', () => {
    const code = path.join(folder, 'old.c');
    for (const abi of [1, ABI + 1]) {
      const library = path.join(folder, `old-${abi}.so`);
      fs.writeFileSync(code, `int lm_abi(void) { return ${abi}; }\n`);
      assert.equal(spawnSync('cc', ['-shared', '-fPIC', '-o', library, code]).status, 0);
      const refused = {
        code: 'native_unavailable',
        message: new RegExp(`another version of longmind.* ${abi},.* ${ABI}`),
      };
      assert.throws(() => loadNative(library), refused);
    }
    assert.ok(loadNative(built).isaAvailable() > 0);
  });

  it('without a compiler: one error that says what to install', () => {
    const r = build(empty, empty);
    assert.equal(r.code, 'native_unavailable');
    assert.match(r.message!, /g\+\+: not found/);
    assert.match(r.message!, /apt-get install g\+\+/);
  });

  it('without a compiler, but built before: used', () => {
    const copy = path.join(folder, path.basename(built));
    fs.copyFileSync(built, copy);
    assert.equal(build(folder, empty).path, copy);
  });

  it('without a compiler and with no folder that can be written: what came with the installation is used', () => {
    const installed = path.join(folder, 'installed');
    const code = path.join(installed, 'dist/src');
    for (const part of ['base', 'device/cpu', 'device', 'errors.js', 'types.js'])
      fs.cpSync(path.join(dist, part), path.join(code, part), { recursive: true });
    fs.writeFileSync(path.join(installed, 'package.json'), '{"type": "module"}');
    fs.cpSync(path.join(dist, '../../native/cpu'), path.join(installed, 'native/cpu'), {
      recursive: true,
      filter: (f) => path.basename(f) !== 'build',
    });
    const nowhere = { XDG_CACHE_HOME: '/proc/none', TMPDIR: '/proc/none' };
    assert.equal(build(undefined, empty, code, nowhere).code, 'native_unavailable');
    const shipped = path.join(installed, 'native/cpu/build', path.basename(built));
    fs.mkdirSync(path.dirname(shipped));
    fs.copyFileSync(built, shipped);
    assert.equal(build(undefined, empty, code, nowhere).path, shipped);
  });

  it('a compiler that fails: its own words, and nothing left behind', () => {
    const bin = path.join(folder, 'bin');
    const into = path.join(folder, 'into');
    fs.mkdirSync(bin);
    fs.mkdirSync(into);
    const text =
      '#!/bin/sh\ncase "$*" in *--version*) echo "broken 1.0";; *) echo "no such instruction" >&2; exit 1;; esac\n';
    fs.writeFileSync(path.join(bin, 'g++'), text, { mode: 0o755 });
    fs.symlinkSync('/bin/sh', path.join(bin, 'sh'));
    const r = build(into, bin);
    assert.equal(r.code, 'native_unavailable');
    assert.match(r.message!, /broken 1\.0\) failed:\s+no such instruction/);
    assert.deepEqual(fs.readdirSync(into), []);
  });
});

describe('a compilation that takes long', () => {
  it('keeps its lock young, so that nobody begins another', () => {
    const bin = path.join(folder, 'slow-bin');
    const into = path.join(folder, 'slow');
    const ages = path.join(folder, 'ages');
    fs.mkdirSync(bin);
    fs.mkdirSync(into);
    // a compiler that finds its lock as if made long ago, and looks again two seconds later
    const text = `#!/bin/sh
case "$*" in *--version*) echo "slow 1.0"; exit 0;; *-fsyntax-only*) exit 1;; esac
/usr/bin/touch -d @1000 ${into}/*.lock
/bin/sleep 2.5
/usr/bin/stat -c %Y ${into}/*.lock >> ${ages}
exit 1
`;
    fs.writeFileSync(path.join(bin, 'g++'), text, { mode: 0o755 });
    for (const program of ['/bin/sh', '/bin/sleep', '/usr/bin/touch'])
      fs.symlinkSync(program, path.join(bin, path.basename(program)));
    assert.equal(build(into, bin).code, 'native_unavailable');
    const seen = fs.readFileSync(ages, 'utf8').trim().split('\n').map(Number);
    assert.ok(seen.length > 0 && seen.every((t) => Date.now() / 1e3 - t < 60), `last touched at ${seen}`);
    assert.deepEqual(fs.readdirSync(into), []);
  });
});

describe('the machine', () => {
  it('threads fit the affinity and the quota; memory fits the machine', () => {
    assert.ok(defaultThreads() >= 1 && defaultThreads() <= os.availableParallelism());
    assert.ok(cpuQuota() > 0);
    assert.ok(memoryFree() > 0 && memoryFree() <= os.totalmem());
  });
});
