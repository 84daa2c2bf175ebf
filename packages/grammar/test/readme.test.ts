import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const home = path.resolve(path.dirname(new URL(import.meta.url).pathname), '../..');

test("the README's example runs and prints what its comment says", () => {
  const [, code] = /```js\n([\s\S]*?)```/.exec(readFileSync(path.join(home, 'README.md'), 'utf8')) ?? [];
  assert.ok(code);
  const [, promised] = /console\.log\(.*\); \/\/ (.*)$/m.exec(code) ?? [];
  assert.ok(promised);
  // in the package's folder its own name is known
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', code], { cwd: home, encoding: 'utf8' });
  assert.equal(printed.trim(), promised);
});
