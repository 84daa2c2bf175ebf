/** The prebuilt library for this machine, made by the script that makes them all; left as it is if it fits the sources. */
import { spawnSync } from 'node:child_process';
import { findPrebuilt } from '../../src/device/cpu/prebuilt.js';
import { sourceFolder } from '../../src/device/cpu/recipe.js';
import { root } from './spawn.js';

let made: { path: string } | { skip: string } | null = null;

/** Its path, or why it cannot be had here. */
export function prebuiltHere(): { path: string } | { skip: string } {
  made ??= make();
  return made;
}

function make(): { path: string } | { skip: string } {
  const target = `${process.platform}-${process.arch}`;
  const r = spawnSync(process.execPath, ['scripts/prebuilt.mjs', target], { cwd: root, encoding: 'utf8' });
  const found = findPrebuilt(sourceFolder());
  if ('path' in found) return found;
  const lines = r.stderr.split('\n');
  const why = lines.find((l) => l.includes('Error: ')) ?? found.problem ?? `exit status ${r.status}`;
  return { skip: `no prebuilt library for ${target}: ${why}` };
}
