/** What `npm ci --omit=optional --prefix bench/peers` needs: npm 11 refuses a lock file that leaves optional packages out. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../support/spawn.js';

interface Package {
  version?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

test('the lock file of bench/peers holds every package that is asked for, the optional ones too', () => {
  const read = (name: string) => JSON.parse(readFileSync(join(root, 'bench/peers', name), 'utf8'));
  const { packages } = read('package-lock.json') as { packages: Record<string, Package> };
  assert.deepEqual(packages['']!.dependencies, read('package.json').dependencies);
  const missing: string[] = [];
  for (const [at, { dependencies, optionalDependencies }] of Object.entries(packages)) {
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      // as node resolves it: here, or in any folder above
      const places = at.split('/node_modules/').map((_, i, all) => all.slice(0, all.length - i).join('/node_modules/'));
      const found = ['', ...places.map((p) => (p === '' ? '' : `${p}/`))].some(
        (p) => packages[`${p}node_modules/${name}`],
      );
      if (!found) missing.push(`${at} needs ${name}`);
    }
  }
  assert.deepEqual(missing, []);
});
