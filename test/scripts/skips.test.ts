/** A test that did not run must not look like one that passed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { root } from '../support/spawn.js';

function run(more: Record<string, string>) {
  const env: NodeJS.ProcessEnv = { ...process.env, ...more };
  // else node takes it for a part of this test
  delete env.NODE_TEST_CONTEXT;
  if (!('REQUIRE_ALL' in more)) delete env.REQUIRE_ALL;
  return spawnSync(process.execPath, ['scripts/test.mjs', 'test/support/one-skipped.ts'], {
    cwd: root,
    env,
    encoding: 'utf8',
  });
}

test('what is skipped is listed with its reason, and is a failure where all is required', () => {
  const usual = run({});
  assert.equal(usual.status, 0, usual.stderr);
  const ci = run({ REQUIRE_ALL: '1' });
  assert.equal(ci.status, 1);
  for (const { stderr } of [usual, ci]) {
    assert.match(stderr, /^2 skipped/m);
    assert.match(stderr, /one-skipped\S*: cannot run\n {4}there is no moon here/);
    assert.match(stderr, /neither can these\n {4}nor a sun/);
  }
  assert.match(ci.stderr, /REQUIRE_ALL is set: a failure/);
});
