/**
 * Python's `openai` and `instructor` against the bundled model. By hand, since PyPI may be out of reach:
 *
 *   npm run build && node test/clients/python/run.mjs
 *
 * Installs both into a virtual environment in node_modules/.cache.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createEngine } from '../../../dist/src/index.js';
import { createServer } from '../../../dist/src/server/index.js';

const PACKAGES = ['openai==3.3.0', 'instructor==1.17.0'];
const root = path.resolve(path.dirname(new URL(import.meta.url).pathname), '../../..');
const folder = path.join(root, 'node_modules', '.cache', `python-${PACKAGES.join('-').replaceAll('==', '-')}`);
const python = path.join(folder, 'bin', 'python');

function run(command, args) {
  const { status } = spawnSync(command, args, { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

const installed = path.join(folder, 'installed');
if (!existsSync(installed)) {
  run('python3', ['-m', 'venv', folder]);
  run(python, ['-m', 'pip', 'install', '--quiet', '--no-compile', ...PACKAGES]);
  writeFileSync(installed, '');
}
const engine = await createEngine({ model: 'memo', cacheMaxEntryCount: 128 });
const server = await createServer(engine, { serverPort: 0, logLevel: 'error', servedModelName: 'memo' });
const check = spawn(python, [path.join(root, 'test/clients/python/check.py'), `${server.url}/v1`], { stdio: 'inherit' });
process.exitCode = await new Promise((resolve) => {
  check.on('close', (status) => resolve(status ?? 1));
});
await server.close({ drainMs: 0 });
await engine.close();
