#!/usr/bin/env node
// Starts the command line. Written so that old versions of Node can at least read it and say that they are too old.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const NEEDED = [20, 19];
const root = fileURLToPath(new URL('..', import.meta.url));
const entry = join(root, 'dist', 'src', 'cli', 'run.js');
/** Written after each build from here: tsc leaves the files it need not change as old as they were. */
const stamp = join(root, 'dist', '.built');

function stop(message) {
  console.error(`longmind: ${message}`);
  process.exit(1);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return;
  stop(`needs Node ${NEEDED.join('.')} or newer, this is ${process.versions.node}; see https://nodejs.org`);
}

function newest(folder) {
  let time = 0;
  for (const item of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, item.name);
    if (item.isDirectory()) time = Math.max(time, newest(path));
    else if (item.name.endsWith('.ts')) time = Math.max(time, statSync(path).mtimeMs);
  }
  return time;
}

const modified = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);

/** What a checkout is built of, in the order of building: its packages, then itself. */
function projects() {
  const home = join(root, 'packages');
  const packages = existsSync(home) ? readdirSync(home).map((name) => join(home, name)) : [];
  return [...packages, root].filter((p) => existsSync(join(p, 'tsconfig.json')) && existsSync(join(p, 'src')));
}

/** A checkout builds itself when its sources are newer; a package comes built. */
function build() {
  const all = projects();
  if (!all.includes(root)) {
    if (!existsSync(entry)) stop(`the package is incomplete: ${entry} is missing; install it again`);
    return;
  }
  const built = Math.max(modified(stamp), modified(join(root, 'dist', '.tsbuildinfo')));
  const sources = Math.max(...all.map((p) => newest(join(p, 'src'))));
  if (existsSync(entry) && sources <= built) return;
  let tsc;
  try {
    tsc = join(createRequire(import.meta.url).resolve('typescript/package.json'), '..', 'bin', 'tsc');
  } catch {
    stop("this checkout is not built and TypeScript is not installed; run 'npm ci' first");
  }
  console.error('building dist/ …');
  const results = all.map((p) => spawnSync(process.execPath, [tsc, '-p', p], { encoding: 'utf8', cwd: root }));
  if (!existsSync(entry)) stop(`the build failed:\n${results.map((r) => r.stdout + r.stderr).join('')}`);
  if (results.some((r) => r.status !== 0))
    console.error("longmind: TypeScript found errors; 'npm run build' shows them");
  writeFileSync(stamp, '');
}

checkNode();
build();
const { run } = await import(pathToFileURL(entry).href);
const loadServer = () => import(new URL('../dist/src/server/index.js', import.meta.url).href);
process.exitCode = await run(process.argv.slice(2), loadServer);
