/** What is kept of conversations: bounds, and the folder in which they outlive the process. */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Entry } from '../../src/server/conversations/conversation.js';
import { Conversations } from '../../src/server/conversations/conversations.js';
import { openFolder } from '../../src/server/conversations/folder.js';
import { page } from '../../src/server/responses-api/page.js';

let made = 0;
const entry = (text: string): Entry => ({
  id: `msg_${made++}`,
  item: { kind: 'message', role: 'user', texts: [text] },
});
const add = (text: string) => ({ op: 'add' as const, entries: [entry(text)] });

function folder(t: TestContext): string {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-conversations-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function open(dir: string) {
  const { store, recovered } = openFolder(dir);
  return new Conversations({ max: 100 }, store, recovered);
}

test('beyond their number, or their characters, those used least recently are forgotten; one in use never', async () => {
  const all = new Conversations({ max: 2, maxChars: 1000 });
  const [a, b] = [all.create(0, {}, []), all.create(0, {}, [])];
  await all.during(b.id, 0, async () => {
    all.get(a.id, 0);
    const c = all.create(0, {}, []);
    assert.throws(() => all.get(a.id, 0), { code: 'conversation_not_found' });
    all.change(c.id, 0, add('x'.repeat(600)));
    all.create(0, {}, [entry('y'.repeat(600))]);
    assert.throws(() => all.get(c.id, 0), { code: 'conversation_not_found' });
    assert.equal(all.get(b.id, 0), b);
  });
});

test('one that was just begun, or changed, is there, also where all others are in use', async () => {
  const all = new Conversations({ max: 1, maxChars: 1000 });
  const a = all.create(0, {}, []);
  await all.during(a.id, 0, async () => {
    const b = all.create(0, {}, [entry('x')]);
    all.change(b.id, 0, add('y'.repeat(2000)));
    assert.equal(all.get(b.id, 0).entries.length, 2);
    assert.equal(all.get(a.id, 0), a);
  });
});

test('a list has 1 to 100 items, and what is no such number is refused in words', () => {
  const items = Array.from({ length: 120 }, (_, i) => ({ id: `${i}` }));
  for (const [limit, length] of Object.entries({ 1: 1, 20: 20, 99: 99, 100: 100 }))
    assert.equal(page(items, { limit }).data.length, length);
  for (const limit of ['0', '101', '-1', '1.5', 'x', '', '1e2', '010'])
    assert.throws(() => page(items, { limit }), { code: 'invalid_request', message: /'limit' must be an integer/ });
});

test('one that would be too large stays as it is', () => {
  const all = new Conversations({ max: 2, maxCharsEach: 1000 });
  const { id } = all.create(0, {}, [entry('x'.repeat(500))]);
  assert.throws(() => all.change(id, 0, add('x'.repeat(500))), { code: 'conversation_too_large', status: 400 });
  assert.equal(all.get(id, 0).entries.length, 1);
  assert.throws(() => all.create(0, {}, [entry('x'.repeat(1000))]), { code: 'conversation_too_large' });
});

test('a folder holds what was acknowledged, wherever its files end, and its owners', async (t) => {
  const dir = folder(t);
  const first = open(dir);
  const { id } = first.create(7, { a: 'b' }, [entry('é'.repeat(20)), entry('two')]);
  await first.during(id, 7, async (_, more) => more([entry('three')], 'resp_1'));
  first.change(id, 7, { op: 'delete', id: first.get(id, 7).entries[1]!.id });
  first.change(id, 7, add('four'));
  const said = structuredClone(first.get(id, 7));
  await first.close();
  const file = path.join(dir, `${id}.jsonl`);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const whole = readFileSync(file);
  const second = open(dir);
  assert.deepEqual(second.get(id, 7), said);
  assert.throws(() => second.get(id, 0), { code: 'conversation_not_found' });
  await second.close();
  const lines = whole.toString().split('\n').length - 1;
  for (let cut = whole.length - 1; cut > 0; cut -= 37) {
    writeFileSync(file, whole);
    truncateSync(file, cut);
    const torn = open(dir);
    const kept = whole.toString('utf8', 0, cut).split('\n').length - 1;
    if (kept === 0) assert.throws(() => torn.get(id, 7), { code: 'conversation_not_found' });
    else {
      const { entries } = torn.get(id, 7);
      assert.equal(entries.length, [2, 3, 2, 3][kept - 1]);
      torn.change(id, 7, add('more'));
      assert.ok(kept < lines);
    }
    await torn.close();
    if (kept === 0) continue;
    const again = open(dir);
    assert.deepEqual(again.get(id, 7).entries.at(-1)!.item, { kind: 'message', role: 'user', texts: ['more'] });
    await again.close();
  }
});

test('a file of many changes is written anew, and says the same', async (t) => {
  const dir = folder(t);
  const all = open(dir);
  const { id } = all.create(0, {}, [entry('one')]);
  for (let i = 0; i < 1000; i++) all.change(id, 0, { op: 'metadata', metadata: { i: `${i}`, pad: 'x'.repeat(500) } });
  const said = structuredClone(all.get(id, 0));
  assert.ok(statSync(path.join(dir, `${id}.jsonl`)).size < 70_000);
  await all.close();
  const again = open(dir);
  assert.deepEqual(again.get(id, 0), said);
  await again.close();
});

test('what cannot be written is not acknowledged, and nothing is written through a link', async (t) => {
  const dir = folder(t);
  const all = open(dir);
  const { id } = all.create(0, {}, []);
  const file = path.join(dir, `${id}.jsonl`);
  rmSync(file);
  mkdirSync(file);
  assert.throws(() => all.change(id, 0, add('lost')), { code: 'io_error' });
  assert.equal(all.get(id, 0).entries.length, 0);
  rmSync(file, { recursive: true });
  const target = path.join(dir, 'target');
  writeFileSync(target, '');
  symlinkSync(target, file);
  assert.throws(() => all.change(id, 0, add('lost')), { code: 'io_error' });
  assert.equal(readFileSync(target, 'utf8'), '');
  await all.close();
});
