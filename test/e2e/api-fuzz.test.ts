/** The short form of bench/api-fuzz.mjs. Skipped, loudly, where schemathesis cannot be installed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

const script = path.join(import.meta.dirname, '..', '..', '..', 'bench', 'api-fuzz.mjs');
const CANNOT_INSTALL = 3;

test('hundreds of requests made from /openapi.json, some for each operation: no 5xx, no answer that it does not describe', (t) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--short'], { encoding: 'utf8' });
  if (status === CANNOT_INSTALL) {
    console.error(stderr);
    t.skip(stderr.trim());
    return;
  }
  assert.equal(status, 0, stdout + stderr);
  const summary = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<string, unknown>;
  assert.ok((summary.requests as number) >= 500, stdout);
  assert.deepEqual([summary.serverErrors, summary.unasked], [0, []]);
});
