/** A server started by a real npm or npx ends when that is told to: no orphan keeps port and memory. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { modelPath, withoutModel } from '../support/server-process.js';
import { root } from '../support/spawn.js';

interface Ready {
  url: string;
  pid: number;
}

const serve = ['--server-port', '0', '--json', '--cache-max-entry-count', '32'];

function npm(t: TestContext, argv: string[], cwd: string): { child: ChildProcess; ready: Promise<Ready> } {
  // as from a shell: not below the npm that runs the tests
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('npm_')));
  const child = spawn(argv[0]!, argv.slice(1), { cwd, env, stdio: ['ignore', 'pipe', 'inherit'] });
  const ready = new Promise<Ready>((resolve, reject) => {
    let out = '';
    child.stdout!.setEncoding('utf8').on('data', (d: string) => {
      out += d;
      const line = /^\{.*\}$/m.exec(out);
      if (line) resolve(JSON.parse(line[0]) as Ready);
    });
    child.on('close', () => reject(new Error(`npm ended: ${out}`)));
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await ready.then(({ pid }) => process.kill(pid, 'SIGKILL')).catch(() => {});
  });
  return { child, ready };
}

async function endsWith(child: ChildProcess, { url, pid }: Ready): Promise<void> {
  assert.equal((await fetch(`${url}/health`)).status, 200);
  child.kill('SIGTERM');
  for (let i = 0; i < 200; i++) {
    try {
      process.kill(pid, 0);
    } catch {
      return assert.rejects(fetch(`${url}/health`));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`process ${pid} still runs 10 s after npm was told to end`);
}

test('SIGTERM to npm start ends the server', { skip: withoutModel, timeout: 120_000 }, async (t) => {
  // without prestart, which would build what the tests run from
  const argv = ['npm', 'start', '--silent', '--ignore-scripts', '--', '--model', modelPath!, ...serve];
  const { child, ready } = npm(t, argv, root);
  await endsWith(child, await ready);
});

test('SIGTERM to npx longmind serve ends the server', { skip: withoutModel, timeout: 120_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'longmind-npx-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'package.json'), '{"private": true}');
  mkdirSync(join(folder, 'node_modules', '.bin'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules', 'longmind'));
  symlinkSync('../longmind/bin/longmind.js', join(folder, 'node_modules', '.bin', 'longmind'));
  const argv = ['npx', '--no-install', 'longmind', 'serve', '--model', modelPath!, ...serve];
  const { child, ready } = npm(t, argv, folder);
  await endsWith(child, await ready);
});
