/** The newest `openai` under a newer Node passes what the project's own version passes. Skipped, loudly, where npm has neither. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { VERSION } from 'openai/version';
import { latestClient } from '../support/latest-openai.js';
import { root } from '../support/spawn.js';

/** Chat, streams, aborts, error shapes, retry on 429; tools; structured output and tools with a real model. */
const FILES = ['server/openai-client.test.js', 'server/tools.test.js', 'e2e/server.test.js', 'e2e/structured.test.js'];

const client = latestClient();
const skip = typeof client === 'string' ? `SKIPPED: the newest openai: ${client}` : false;
if (skip) console.error(skip);

test('the newest openai under a newer Node: chat, streams, aborts, errors, retries, tools, structured output', {
  skip,
}, () => {
  const { node, hook } = client as Exclude<typeof client, string>;
  // the tests below are not part of this run of the test runner
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const run = (args: string[]) =>
    spawnSync(node, ['--import', hook, ...args], { encoding: 'utf8', cwd: root, env, maxBuffer: 2 ** 26 });
  const script = "console.log(process.version, (await import('openai/version')).VERSION)";
  const versions = run(['--input-type=module', '-e', script]);
  const [nodeVersion, version] = versions.stdout.trim().split(' ');
  assert.notEqual(version, VERSION, versions.stderr);
  assert.notEqual(nodeVersion, process.version);
  const files = FILES.map((f) => join(root, 'dist/test', f));
  const { status, stdout, stderr } = run(['--test', '--test-concurrency=1', '--test-reporter=tap', ...files]);
  assert.equal(status, 0, `${stdout}\n${stderr}`);
  const count = (what: string) => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(stdout)![1]);
  assert.equal(count('fail'), 0);
  assert.ok(count('pass') >= 40, `${count('pass')} tests passed`);
});
