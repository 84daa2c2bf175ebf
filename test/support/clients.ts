/** Clients from PyPI and npm that are no dependencies: scripts/clients.mjs fetches them. */
import { spawnSync } from 'node:child_process';
import { root } from './spawn.js';

/** Where it is, or why it cannot be had here. */
export function client(name: string): { folder: string } | { reason: string } {
  const args = [`${root}scripts/clients.mjs`, name];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  return status === 0 ? { folder: stdout.trim() } : { reason: stderr.trim() };
}
