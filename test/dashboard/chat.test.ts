/** The chat in a real browser, over an engine whose answers are a script. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeEngine } from '../support/fake-engine.js';
import { until } from '../support/http.js';
import { answered, cachedOf, openPage, say, skip, textOf } from './browser.js';

test('an answer streams in, with its numbers, and the session is the conversation', { skip }, async (t) => {
  const engine = new FakeEngine({ answer: () => 'one **two** three', delayMs: 25 });
  const { page } = await openPage(t, engine);
  await say(page, 'count');
  const answer = page.locator('.answer');
  await answer.getByText('one', { exact: false }).waitFor();
  assert.equal(await answer.getAttribute('data-state'), 'running', 'text is shown before the answer is complete');
  assert.equal(await answered(page), 'one two three');
  assert.equal(await textOf(answer.locator('strong')), 'two');
  const numbers = await textOf(answer.locator('.numbers'));
  assert.match(numbers, /[\d.]+ tok\/s/);
  assert.match(numbers, /first token \d+ ms/);
  assert.match(numbers, /17 out/);
  await say(page, 'again');
  await answered(page);
  const [cached, prompt] = await cachedOf(page);
  assert.ok(cached >= 'user: count\n'.length && cached < prompt, `${cached} of ${prompt} tokens were cached`);
  const [first, second] = engine.calls;
  assert.equal(first!.request.sessionId, second!.request.sessionId);
  assert.match(first!.request.sessionId!, /^chat-/);
});

test('what was thought is folded above the answer, and opens', { skip }, async (t) => {
  const reasoning = { open: '<think>', close: '</think>', switch: null, effort: false };
  const engine = new FakeEngine({ info: { reasoning }, answer: () => '<think>\nHm, hm.\n</think>\n\nYes.' });
  const { page } = await openPage(t, engine);
  await say(page, 'well?');
  assert.equal(await answered(page), 'Yes.');
  const thought = page.locator('.thought p');
  assert.equal(await thought.isVisible(), false);
  await page.locator('.thought summary').click();
  assert.equal(await textOf(thought), 'Hm, hm.');
});

test('stop ends the generation at the server and keeps what came', { skip }, async (t) => {
  const engine = new FakeEngine({ answer: () => 'word '.repeat(500), delayMs: 10 });
  const { page } = await openPage(t, engine);
  await say(page, 'go on for ever');
  await page.locator('.answer .markdown').waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  const text = await answered(page);
  assert.ok(text.startsWith('word') && text.length < 2000);
  assert.equal(await page.locator('.answer').getAttribute('data-state'), 'stopped');
  assert.ok(engine.calls[0]!.generation.aborted);
  await page.getByRole('button', { name: 'Send' }).waitFor();
});

test('stop also works before the first token', { skip }, async (t) => {
  const engine = new FakeEngine({ firstDelayMs: 60_000 });
  const { page } = await openPage(t, engine);
  await say(page, 'hello?');
  await until('the request arrives', () => engine.calls.length === 1);
  await page.keyboard.press('Escape');
  await page.locator('.answer[data-state="stopped"]').waitFor();
  await until('the engine is told', () => engine.calls[0]!.generation.aborted);
});

test('regenerate forks the session: both answers stay, and either can be gone on with', { skip }, async (t) => {
  let n = 0;
  const engine = new FakeEngine({ answer: () => `answer ${++n}` });
  const { page } = await openPage(t, engine);
  await say(page, 'question');
  assert.equal(await answered(page), 'answer 1');
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await page.getByText('2/2').waitFor();
  assert.equal(await answered(page), 'answer 2');
  const [first, second] = engine.calls.map((c) => c.request.sessionId!);
  assert.notEqual(first, second);
  assert.ok(engine.kept.get(`0/${first}`)!.text.endsWith('answer 1'), 'the old branch is still there');
  const [cached, prompt] = await cachedOf(page);
  assert.equal(cached, prompt, 'the fork holds the whole question');
  await page.getByRole('button', { name: 'Previous answer' }).click();
  await say(page, 'more');
  await answered(page);
  assert.equal(engine.calls[2]!.request.sessionId, first);
  assert.ok(!engine.kept.has(`0/${second}`), 'the branch that was not taken is forgotten');
});

test('an edit of an earlier turn rewinds the session and asks anew', { skip }, async (t) => {
  const engine = new FakeEngine();
  const { page } = await openPage(t, engine);
  await say(page, 'first');
  await answered(page);
  await say(page, 'second');
  await answered(page);
  const session = engine.calls[0]!.request.sessionId!;
  const before = engine.kept.get(`0/${session}`)!.text;
  await page.locator('.turn').first().getByLabel('Edit this turn').click();
  await page.getByLabel('Edited text').fill('other');
  await page.keyboard.press('Enter');
  assert.equal(await answered(page), 'You said: user: other');
  assert.equal(await page.locator('.turn').count(), 1);
  assert.equal(engine.calls[2]!.request.sessionId, session);
  const after = engine.kept.get(`0/${session}`)!.text;
  assert.ok(after !== before && !after.includes('second'));
});

test('conversations outlive a reload, and a second one is a session of its own', { skip }, async (t) => {
  const engine = new FakeEngine();
  const { page } = await openPage(t, engine);
  await say(page, 'remember me');
  await answered(page);
  await page.getByRole('button', { name: 'New conversation' }).click();
  await say(page, 'another');
  await answered(page);
  await page.reload();
  assert.equal(await answered(page), 'You said: user: another');
  await page.getByRole('button', { name: /^remember me/ }).click();
  assert.equal(await answered(page), 'You said: user: remember me');
  await say(page, 'and on');
  await answered(page);
  const ids = engine.calls.map((c) => c.request.sessionId);
  assert.equal(ids[0], ids[2]);
  assert.notEqual(ids[0], ids[1]);
  const { messages } = engine.calls[2]!.request as { messages: { content: string }[] };
  assert.deepEqual(
    messages.map((m) => m.content),
    ['remember me', 'You said: user: remember me', 'and on'],
  );
});

test('what a model writes cannot become HTML, a script or a request', { skip }, async (t) => {
  const hostile = [
    '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>',
    '![a picture](https://example.com/x.png) [click](javascript:window.hacked=1)',
    '[fine](https://example.com/)',
  ].join('\n\n');
  const engine = new FakeEngine({ answer: () => hostile });
  const { page } = await openPage(t, engine);
  await say(page, 'attack');
  const text = await answered(page);
  assert.ok(text.includes('<img src=x') && text.includes('javascript:'));
  assert.equal(await page.locator('.answer img, .answer script').count(), 0);
  const links = await page.locator('.answer a').evaluateAll((list) => list.map((a) => String(a.getAttribute('href'))));
  assert.deepEqual(links, ['https://example.com/x.png', 'https://example.com/']);
  assert.equal(await page.evaluate('window.hacked'), undefined);
});

test('a failure says what went wrong, and the next question works', { skip }, async (t) => {
  const engine = new FakeEngine({ sessionLen: 60 });
  const { page } = await openPage(t, engine, { expected: /status of 400/ });
  await say(page, 'x'.repeat(100));
  const problem = await textOf(page.getByRole('alert'));
  assert.match(problem, /60/);
  await page.getByRole('button', { name: 'New conversation' }).click();
  await say(page, 'short');
  assert.equal(await answered(page), 'You said: user: short');
});

test('a server with API keys: the page asks for one and goes on', { skip }, async (t) => {
  const engine = new FakeEngine();
  const { page } = await openPage(t, engine, { server: { apiKeys: ['right-key'] }, expected: /status of 401/ });
  await page.getByRole('textbox', { name: 'API key' }).fill('right-key');
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.locator('.dot.live').waitFor();
  await say(page, 'hi');
  assert.equal(await answered(page), 'You said: user: hi');
});

test('the page fits a phone, and the keyboard reaches all of it', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine(), { context: { viewport: { width: 360, height: 740 } } });
  const overflow = 'document.documentElement.scrollWidth > document.documentElement.clientWidth';
  assert.equal(await page.evaluate(overflow), false, 'nothing sticks out to the side');
  await page.getByRole('button', { name: 'Engine' }).click();
  await page.locator('.map canvas').waitFor();
  assert.equal(await page.evaluate(overflow), false);
  const bar = await page.locator('header.top').boundingBox();
  assert.equal(Math.round(bar!.width), 360);
  await page.getByRole('button', { name: 'Chat', exact: true }).click();
  await page.keyboard.press('/');
  await page.keyboard.type('from the keyboard');
  await page.keyboard.press('Enter');
  assert.equal(await answered(page), 'You said: user: from the keyboard');
});

test('light and dark follow the system until the reader chooses', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine(), { context: { colorScheme: 'dark' } });
  const shade = () => page.locator('html').getAttribute('data-theme');
  assert.equal(await shade(), 'dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await page.locator('html[data-theme="light"]').waitFor();
  await page.getByLabel('Dark colours').click();
  assert.equal(await shade(), 'dark');
  await page.reload();
  assert.equal(await shade(), 'dark');
});

test('two tabs share the conversations', { skip }, async (t) => {
  const { page, server } = await openPage(t, new FakeEngine());
  const second = await page.context().newPage();
  await second.goto(server.url);
  await say(page, 'from the first tab');
  await answered(page);
  await second
    .getByRole('button', { name: /^from the first tab/ })
    .first()
    .click();
  assert.equal(await answered(second), 'You said: user: from the first tab');
  await say(second, 'from the second');
  await answered(second);
  await page.getByText('You said: user: from the second').waitFor();
  assert.equal(await page.locator('.turn').count(), 2);
});

test('a page that nobody sees asks nothing of the engine', { skip }, async (t) => {
  let snapshots = 0;
  class Counting extends FakeEngine {
    override async snapshot() {
      snapshots++;
      return super.snapshot();
    }
  }
  const { page } = await openPage(t, new Counting());
  await until('it is followed', () => snapshots > 2);
  const hide = (hidden: boolean) =>
    page.evaluate(
      `Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true });
       document.dispatchEvent(new Event('visibilitychange'));`,
    );
  await hide(true);
  await page.waitForTimeout(500);
  const then = snapshots;
  await page.waitForTimeout(800);
  assert.ok(snapshots <= then + 1, `${snapshots - then} snapshots for a hidden page`);
  await hide(false);
  await until('it is followed again', () => snapshots > then + 2);
});
