/** The short form of `npm run bench:load`: a server in a process of its own under many streams, aborts and slow readers. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { smollmPath } from '../support/model.js';
import { bundledModelPath, root } from '../support/model-file.js';

const path = bundledModelPath() ?? (await smollmPath());
const skip = path === null ? 'SKIPPED: there is no model here' : false;

interface Result {
  ok: boolean;
  problems: string[];
  outcomes: { finished: number; aborted: number; malformed: number; tokens: number };
  abort: { watched: number; maxSteps: number | null };
  leftOver: { running: number; waiting: number; activeBlocks: number };
  delayMs: { p50: number; p99: number };
  mainCpuUsPerToken: number;
  rssMiB: number[];
}

test('40 streams, a third cut off, some read slowly: none malformed, none left over, blocks free within a step', {
  skip,
}, async () => {
  const argv = ['--model', path!, '--streams', '40', '--seconds', '6', '--aborts', '0.35', '--abort-within', '1500'];
  argv.push('--batch', '24', '--tokens', '100,600', '--json');
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'bench/load.mjs'), ...argv]).catch((e) => {
    throw new Error(`${e.message}\n${e.stdout}`);
  });
  const r = JSON.parse(stdout) as Result;
  assert.deepEqual(r.problems, []);
  assert.equal(r.outcomes.malformed, 0);
  assert.ok(r.outcomes.finished >= 10 && r.outcomes.aborted >= 5, JSON.stringify(r.outcomes));
  assert.deepEqual(r.leftOver, { running: 0, waiting: 0, activeBlocks: 0 });
  assert.ok(r.abort.watched > 0 && r.abort.maxSteps! <= 1, JSON.stringify(r.abort));
  assert.ok(r.mainCpuUsPerToken > 0 && r.delayMs.p99 >= r.delayMs.p50 && r.rssMiB.length >= 2);
  assert.equal(r.ok, true);
});
