/** What package.json says of Node holds for everything that an installation brings. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { root } from '../support/spawn.js';

interface Locked {
  version: string;
  dev?: boolean;
  engines?: { node?: string };
}

/** Does a range of the forms that packages use hold 20.19.0? */
function holds(range: string): boolean {
  return range.split('||').some((alternative) => {
    const parsed = /^\s*(>=|\^|~)?\s*v?(\d+)(?:\.(\d+|x))?(?:\.(\d+|x))?\s*$/.exec(alternative);
    assert.ok(parsed, `a range that this test does not read: '${range}'`);
    const [, operator = '', major, minor = '0'] = parsed;
    const least = Number(major) * 1000 + (Number(minor) || 0);
    return operator === '>=' ? least <= 20_019 : Number(major) === 20 && least <= 20_019;
  });
}

test('no dependency needs a newer Node than longmind does: nobody gets EBADENGINE', () => {
  const lock = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8')) as { packages: Record<string, Locked> };
  const shipped = Object.entries(lock.packages).filter(([name, p]) => name !== '' && !p.dev);
  assert.ok(shipped.length > 20);
  const tooNew = shipped.filter(([, p]) => p.engines?.node && !holds(p.engines.node));
  assert.deepEqual(
    tooNew.map(([name, p]) => `${name} ${p.version} needs ${p.engines?.node}`),
    [],
  );
});
