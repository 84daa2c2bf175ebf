/** The page beyond the chat: sessions of all clients, what requests did, conversations out of files. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import { readConversations } from '../../src/dashboard/chat/import.js';
import { tokensOf } from '../../src/dashboard/requests/request.js';
import { forest, type Session, search, type Tree } from '../../src/dashboard/sessions/forest.js';
import { transcript } from '../../src/dashboard/sessions/transcript.js';
import type { ChatRequest } from '../../src/types.js';
import { FakeEngine } from '../support/fake-engine.js';
import { answered, openPage, say, skip, textOf } from './browser.js';

const session = (id: string, last_used: number, from: string | null = null): Session => ({
  id,
  state: 'cached',
  tokens: 10,
  cached_tokens: 5,
  last_used,
  forked_from: from === null ? null : { id: from, tokens: 3 },
});
const drawn = (trees: readonly Tree[]): string =>
  trees.map((t) => t.session.id + (t.forks.length > 0 ? `(${drawn(t.forks)})` : '')).join(' ');

test('forks hang below their origin; the tree used last comes first; one whose origin is gone, or a circle, stands by itself', () => {
  const list = [session('a', 1), session('b', 5), session('c', 9, 'a'), session('d', 2, 'c'), session('e', 3, 'gone')];
  assert.equal(drawn(forest(list)), 'a(c(d)) b e');
  // every name is there once, whatever the origins say
  for (const circle of [
    [session('x', 1, 'x')],
    [session('x', 1, 'y'), session('y', 2, 'x')],
    [session('x', 1, 'z'), session('y', 2, 'x'), session('z', 3, 'y'), session('w', 1, 'x')],
  ]) {
    const names = drawn(forest(circle)).match(/\w/g)!.sort();
    assert.deepEqual(names, circle.map((s) => s.id).sort());
  }
  const found = search(forest(list), (s) => s.id === 'd', 10);
  assert.deepEqual([drawn(found.shown), found.found], ['a(c(d))', 1], 'with what leads to it');
  assert.equal(search(forest(list), () => true, 2).found, 5);
});

test('what was said is read from the spellings of the usual templates; other text stays one piece', () => {
  const said = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'a\nb' },
    { role: 'assistant', content: 'c' },
  ];
  const chatml =
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\nc<|im_end|>';
  assert.deepEqual(transcript(chatml), said);
  assert.deepEqual(transcript(chatml.slice(0, -'<|im_end|>'.length)), said, 'cut off by a token limit');
  const header = (role: string) => `<|start_header_id|>${role}<|end_header_id|>\n\n`;
  const llama = `<|begin_of_text|>${header('system')}Be brief.<|eot_id|>${header('user')}a\nb<|eot_id|>${header('assistant')}c<|eot_id|>`;
  assert.deepEqual(transcript(llama), said);
  assert.deepEqual(transcript('once upon a time'), [{ role: 'text', content: 'once upon a time' }]);
  assert.deepEqual(transcript(''), []);
});

test('the parts of a prompt are the whole prompt, also of a request that was preempted', () => {
  const choice = { index: 0, finish_reason: 'stop', queue_ms: 0, first_token_ms: 0, total_ms: 0, completion_tokens: 7 };
  const counts = { prompt_tokens: 100, cached_tokens: 60, restored_tokens: 20, accepted_prediction_tokens: 0 };
  const parts = (recomputed_tokens: number) =>
    tokensOf({ choices: [{ ...choice, ...counts, recomputed_tokens }] }).map((p) => p.size);
  assert.deepEqual(parts(30), [40, 20, 30, 10, 7]);
  assert.deepEqual(parts(300), [40, 20, 40, 0, 7]);
});

test('files that hold no conversation are refused with a reason', () => {
  for (const [text, reason] of [
    ['nonsense', /not a JSON file/],
    ['{}', /not a conversation/],
    ['{"longmind":"chat"}', /no messages/],
    ['{"longmind":"chat","messages":[{"role":"user"}]}', /no text/],
    ['{"longmind":"chat","messages":[{"role":"assistant","content":"x"}]}', /no place/],
    ['null', /not a conversation/],
  ] as const)
    assert.throws(() => readConversations(text), reason);
});

const PREFIX = '<|im_start|>user\nmy code is 7<|im_end|>\n<|im_start|>assistant\nnoted<|im_end|>\n';

/** As another client would have left it. */
async function withSessions(engine: FakeEngine, owner = 0): Promise<void> {
  const ask = (sessionId: string, text: string) => engine.complete({ prompt: text, sessionId, owner }).result();
  await ask('support-4711', PREFIX);
  await ask('other', 'once');
  await engine.sessions.fork('support-4711', 'support-fork', { owner, length: PREFIX.length });
}

const goTo = (page: Page, name: string) => page.getByRole('button', { name, exact: true }).click();
const line = (page: Page, name: string) => page.locator('.item .line', { hasText: name }).first();

test("another client's session is found, read and gone on with: only what is new is sent", { skip }, async (t) => {
  const engine = new FakeEngine({ answer: () => '' });
  await withSessions(engine);
  const { page } = await openPage(t, engine);
  await goTo(page, 'Sessions');
  await line(page, 'other').waitFor();
  assert.match(await textOf(page.locator('.sessions header')), /3 kept/);
  const nested = page.getByRole('list', { name: 'Forks of support-4711' });
  assert.match(await textOf(nested), /support-fork/);
  await page.getByLabel('Search the sessions').fill('fork');
  await page.locator('.item', { hasText: 'other' }).waitFor({ state: 'detached' });
  assert.equal(await page.locator('.item').count(), 2, 'the fork, below its origin');
  // by keyboard
  await line(page, 'support-fork').focus();
  await page.keyboard.press('Enter');
  await page.locator('.saying.assistant', { hasText: 'noted' }).waitFor();
  assert.match(await textOf(page.locator('.details dl')), new RegExp(`support-4711 after ${PREFIX.length} tokens`));
  await page.getByRole('button', { name: 'Go on with it' }).click();
  await page.locator('.before .saying.user', { hasText: 'my code is 7' }).waitFor();
  engine.options.answer = () => 'seven';
  for (const question of ['what is my code?', 'sure?']) {
    await say(page, question);
    assert.equal(await answered(page), 'seven');
  }
  const asked = engine.calls.slice(-2).map(({ request }) => request as ChatRequest);
  for (const r of asked) assert.deepEqual([r.sessionId, r.sessionAppend, r.messages.length], ['support-fork', true, 1]);
  // another answer: a fork of the session as it was before the question
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await page.getByText('2/2').waitFor();
  assert.equal(await answered(page), 'seven');
  const again = engine.calls.at(-1)!.request as ChatRequest;
  assert.notEqual(again.sessionId, 'support-fork');
  assert.equal(again.sessionAppend, true);
  const kept = (name: string) => engine.kept.get(`0/${name}`)!;
  assert.equal(kept(again.sessionId!).text, kept('support-fork').text, 'it stands there once');
  // off this page's list, but not off the server: it is somebody else's
  await page.getByLabel(/^Delete my code/).click();
  await page.reload();
  await page.locator('.dot.live').waitFor();
  assert.ok(engine.kept.has('0/support-fork'));
});

test('a session that the server has forgotten is not begun anew in silence', { skip }, async (t) => {
  const engine = new FakeEngine();
  await withSessions(engine);
  const { page } = await openPage(t, engine, { expected: /404/ });
  await goTo(page, 'Sessions');
  await line(page, 'other').click();
  await page.getByRole('button', { name: 'Go on with it' }).click();
  await engine.sessions.delete('other');
  const { length } = engine.calls;
  await say(page, 'are you there?');
  await page.getByText("there is no session 'other'").waitFor();
  assert.equal(engine.calls.length, length);
});

test('a session is forked and gone on with, and forgotten after a second click', { skip }, async (t) => {
  const engine = new FakeEngine({ answer: () => '' });
  await withSessions(engine);
  const { page } = await openPage(t, engine);
  await goTo(page, 'Sessions');
  await line(page, 'other').click();
  await page.getByRole('button', { name: 'Forget' }).click();
  assert.ok(engine.kept.has('0/other'));
  await page.getByRole('button', { name: 'Really forget it?' }).click();
  await line(page, 'other').waitFor({ state: 'detached' });
  assert.ok(!engine.kept.has('0/other'));
  await line(page, 'support-4711').click();
  await page.getByRole('button', { name: 'Fork and go on' }).click();
  await page.locator('.before').waitFor();
  engine.options.answer = () => 'well';
  await say(page, 'hello');
  await answered(page);
  const { sessionId } = engine.calls.at(-1)!.request;
  assert.match(sessionId!, /^support-4711\.fork-/);
  assert.equal(engine.kept.get('0/support-4711')!.text, PREFIX, 'the origin stays as it was');
});

test('a request shows where its KV came from and where its time went; the bar is read out', { skip }, async (t) => {
  const engine = new FakeEngine({ answer: () => 'four', kv: { restoredTokens: 3, recomputedTokens: 2 } });
  const { page, server } = await openPage(t, engine);
  const ask = (n: number) =>
    fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: '0123456789'.repeat(n), session_id: 'mine' }),
    });
  await ask(1);
  await ask(2);
  await goTo(page, 'Requests');
  await line(page, 'mine').waitFor();
  assert.equal(await page.locator('.item').count(), 2);
  const bar = page.locator('.item .line .parts-bar').first();
  assert.equal(
    await bar.getAttribute('aria-label'),
    'cached 7, restored 3, recomputed 2, computed 8, generated 4 tokens',
  );
  await line(page, 'mine').click();
  assert.match(await textOf(page.locator('[data-part="recomputed"]')), /recomputed 2/);
  assert.match(await textOf(page.locator('[data-part="decode"]')), /decode \d+ ms/);
  await page.getByLabel('Search the requests').fill('nothing like it');
  await page.getByText('No request holds this.').waitFor();
});

test('a key sees its own sessions and requests only', { skip }, async (t) => {
  const { Keys } = await import('../../src/server/auth.js');
  const owner = (key: string) => new Keys(['alpha', 'beta']).owner({ authorization: `Bearer ${key}` });
  const engine = new FakeEngine();
  await engine.complete({ prompt: 'x', sessionId: 'of-alpha', owner: owner('alpha') }).result();
  await engine.complete({ prompt: 'x', sessionId: 'of-beta', owner: owner('beta') }).result();
  const { page, server } = await openPage(t, engine, { server: { apiKeys: ['alpha', 'beta'] }, expected: /401/ });
  await page.getByRole('textbox', { name: 'API key' }).fill('beta');
  await page.keyboard.press('Enter');
  await fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer alpha' },
    body: JSON.stringify({ prompt: 'secret', session_id: 'of-alpha' }),
  });
  await goTo(page, 'Sessions');
  await line(page, 'of-beta').waitFor();
  assert.doesNotMatch(await textOf(page.locator('main')), /of-alpha/);
  await goTo(page, 'Requests');
  await page.getByText('Nothing was asked for yet.').waitFor();
});

test('what was typed is still there after looking at sessions', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine());
  await page.getByLabel('Message', { exact: true }).fill('half a thought');
  await goTo(page, 'Sessions');
  await page.getByText('Nobody has a session yet').waitFor();
  await goTo(page, 'Chat');
  assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'half a thought');
});

test('all conversations go into a file and come back out of it; a wrong file says why', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine({ answer: () => 'the answer' }));
  for (const [i, question] of ['first question', 'second question'].entries()) {
    if (i > 0) await page.getByRole('button', { name: 'New conversation' }).click();
    await say(page, question);
    await answered(page);
  }
  const [file] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Export all' }).click(),
  ]);
  const saved = await file.path();
  assert.equal(readConversations(readFileSync(saved, 'utf8')).length, 2);
  await page.evaluate(
    'localStorage.clear(); onpagehide = null; addEventListener("pagehide", () => localStorage.clear())',
  );
  await page.reload();
  const titles = () => page.locator('.sidebar .title').allTextContents();
  assert.deepEqual(await titles(), ['New conversation']);
  const field = page.getByLabel('Files to import');
  await field.setInputFiles(saved);
  await page.locator('.sidebar .title', { hasText: 'second question' }).waitFor();
  assert.deepEqual((await titles()).sort(), ['first question', 'second question']);
  // it goes on with its whole history
  await say(page, 'and now?');
  await answered(page);
  assert.equal(await page.locator('.turn').count(), 2);
  await field.setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from('[]') });
  await page.getByText('this is not a conversation that was saved here').waitFor();
});

test('on a phone the views fit the screen, and lists do too', { skip }, async (t) => {
  const engine = new FakeEngine();
  await withSessions(engine);
  const { page } = await openPage(t, engine, { context: { viewport: { width: 360, height: 740 } } });
  for (const name of ['Sessions', 'Requests', 'Engine', 'Chat']) {
    const box = (await page.getByRole('button', { name, exact: true }).boundingBox())!;
    assert.ok(box.x >= 0 && box.x + box.width <= 360, `${name}: ${JSON.stringify(box)}`);
    assert.ok(box.width > 30, `${name} is cut off: ${JSON.stringify(box)}`);
    await goTo(page, name);
    assert.ok(((await page.evaluate('document.documentElement.scrollWidth')) as number) <= 360, name);
  }
});
