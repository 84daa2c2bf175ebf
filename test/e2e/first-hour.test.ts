/** What a newcomer's first commands do when the machine lacks something: the truth, early, and an exit status. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startHub } from '../hub/fake-hub.js';
import { type Finished, root } from '../support/spawn.js';

const folder = mkdtempSync(join(tmpdir(), 'longmind-first-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** PATH with the programs a test allows and nothing else. */
function programs(name: string, scripts: Record<string, string> = {}): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [program, script] of Object.entries(scripts))
    writeFileSync(join(path, program), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

const bare = programs('bare');

/** The package without any library: no checkout, so it uses the cache folder. */
function installed(): string {
  const at = join(folder, 'installed');
  for (const part of ['bin', 'package.json', 'dist/src', 'models', 'native'])
    cpSync(join(root, part), join(at, part), {
      recursive: true,
      filter: (f) => !/native\/(cpu\/build|prebuilt)/.test(f),
    });
  symlinkSync(join(root, 'node_modules'), join(at, 'node_modules'));
  return join(at, 'bin', 'longmind.js');
}
const script = installed();

let homes = 0;
function longmind(argv: string[], env: Record<string, string>): Promise<Finished & { home: string }> {
  const home = join(folder, `home-${homes++}`);
  mkdirSync(join(home, 'tmp'), { recursive: true });
  const clean = { PATH: bare, HOME: home, TMPDIR: join(home, 'tmp'), ...env };
  const child = spawn(process.execPath, [script, ...argv], { env: clean, stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (d: string) => {
      texts[name] += d;
    });
  return new Promise((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, ...texts, home }));
  });
}

const nobody = 'http://127.0.0.1:9';

test('pull that fetched nothing says so by its exit status, with and without a name', async () => {
  for (const argv of [['pull'], ['pull', 'default'], ['pull', '--offline']]) {
    const { code, stdout, stderr } = await longmind(argv, { HF_ENDPOINT: nobody });
    assert.deepEqual([code, stdout], [1, ''], stderr);
    assert.match(stderr, /longmind: model '(default|smollm2)' /);
  }
});

test('a model that was named is never another one; without a name memo stands in', async () => {
  const named = await longmind(['inspect', 'default', '--offline', '--json'], {});
  assert.deepEqual([named.code, JSON.parse(named.stdout).error.code], [1, 'offline']);
  const generated = await longmind(['generate', '-p', 'x', '-m', 'default', '--offline', '--json'], {});
  assert.deepEqual([generated.code, JSON.parse(generated.stdout).error.code], [1, 'offline']);
  // inspect needs a device, and null computes everything but arithmetic
  const unnamed = await longmind(['inspect', '--offline', '--device', 'null', '--json'], {});
  assert.equal(unnamed.code, 0, unnamed.stdout);
  assert.match(JSON.parse(unnamed.stdout).path, /memo/);
});

test('without a compiler nothing is fetched: it is looked for first', async (t) => {
  const hub = await startHub({ 'm-Q8_0.gguf': { bytes: Buffer.alloc(1000) } });
  t.after(() => hub.close());
  const argv = ['generate', '-p', 'x', '-m', 'hf:org/repo:Q8_0', '--json'];
  const { code, stdout } = await longmind(argv, { HF_ENDPOINT: hub.endpoint });
  const { error } = JSON.parse(stdout);
  assert.deepEqual([code, error.code], [1, 'native_unavailable']);
  assert.match(error.message, /apt-get install g\+\+/);
  assert.deepEqual(hub.log, []);
});

test('where the cache folder cannot be written, the native library is built in a temporary one, and that is said', async () => {
  // a compiler that makes an empty library, which then cannot be loaded
  const PATH = programs('compiler', {
    'g++':
      'case "$*" in *--version*) echo "fake 1.0"; exit 0;; esac\nfor a; do [ "$last" = -o ] && : > "$a"; last=$a; done',
  });
  for (const name of ['sh', 'touch', 'sleep']) symlinkSync(`/bin/${name}`, join(PATH, name));
  const blocked = join(folder, 'blocked');
  writeFileSync(blocked, '');
  const { code, stderr, home } = await longmind(['generate', '-p', 'x', '-m', 'memo'], {
    PATH,
    XDG_CACHE_HOME: blocked,
  });
  assert.equal(code, 1);
  assert.match(stderr, /blocked\/longmind\/native' cannot be written: the native library is kept in '.*tmp\/longmind-/);
  const built = join(home, 'tmp', `longmind-${process.getuid!()}`, 'native');
  assert.match(readdirSync(built).join(), /^longmind-cpu-.*\.so$/);
});
