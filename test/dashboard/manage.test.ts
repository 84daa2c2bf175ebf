/** What can be done with conversations beside talking: copy, name, search, save, set, delete and have back. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import type { ChatRequest } from '../../src/types.js';
import { FakeEngine } from '../support/fake-engine.js';
import { until } from '../support/http.js';
import { answered, openPage, say, skip, textOf } from './browser.js';

const titles = (page: Page) => page.locator('.sidebar .title').allTextContents();

test('the whole answer can be copied, as it was written', { skip }, async (t) => {
  const written = 'one **two**\n\n```js\nthree();\n```\n';
  const engine = new FakeEngine({ answer: () => written });
  const { page } = await openPage(t, engine, { context: { permissions: ['clipboard-read', 'clipboard-write'] } });
  for (const question of ['first', 'second']) {
    await say(page, question);
    await answered(page);
  }
  // of every answer, not of the last one only
  await page.getByRole('button', { name: 'Copy the answer' }).first().click();
  await page.getByText('Copied').waitFor();
  assert.equal(await page.evaluate('navigator.clipboard.readText()'), written);
});

test('without the clipboard of a secure page it is copied in the old way', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine({ answer: () => 'plain' }));
  await say(page, 'a');
  await answered(page);
  await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })");
  await page.getByRole('button', { name: 'Copy the answer' }).click();
  await page.getByText('Copied').waitFor();
});

test('a conversation is renamed, keeps its name, and Escape keeps the old one', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine());
  await say(page, 'hello there');
  await answered(page);
  await page.getByRole('button', { name: 'hello there' }).and(page.locator('.chat-name')).click();
  await page.getByLabel('Name of the conversation').fill('Greetings');
  await page.keyboard.press('Enter');
  assert.deepEqual(await titles(page), ['Greetings']);
  await page.locator('.chat-name').click();
  await page.getByLabel('Name of the conversation').fill('Nothing');
  await page.keyboard.press('Escape');
  await page.locator('.turn').first().getByLabel('Edit this turn').click();
  await page.getByLabel('Edited text').fill('another first question');
  await page.keyboard.press('Enter');
  await answered(page);
  assert.deepEqual(await titles(page), ['Greetings'], 'a name that was chosen is not overwritten');
  await page.reload();
  assert.deepEqual(await titles(page), ['Greetings']);
});

test('search finds words of titles, questions and answers', { skip }, async (t) => {
  const engine = new FakeEngine({ answer: (prompt) => (prompt.includes('tree') ? 'An oak has leaves' : 'Rain falls') });
  const { page } = await openPage(t, engine);
  for (const [i, question] of ['tell me of a tree', 'tell me of weather'].entries()) {
    if (i > 0) await page.getByRole('button', { name: 'New conversation' }).click();
    await say(page, question);
    await answered(page);
  }
  const search = page.getByLabel('Search the conversations');
  await search.fill('OAK leaves');
  assert.deepEqual(await titles(page), ['tell me of a tree']);
  await search.fill('weather');
  assert.deepEqual(await titles(page), ['tell me of weather']);
  await search.fill('nowhere');
  await page.getByText('No conversation holds this.').waitFor();
  await search.fill('');
  assert.equal((await titles(page)).length, 2);
});

test('a conversation is saved as Markdown, and as JSON that longmind chat reads', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine({ answer: () => 'the answer' }));
  await say(page, 'What/is: this?');
  await answered(page);
  const saved = async (name: string) => {
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name }).click()]);
    return { name: file.suggestedFilename(), text: readFileSync(await file.path(), 'utf8') };
  };
  assert.deepEqual(await saved('Markdown'), {
    name: 'What-is-this.md',
    text: '# What/is: this?\n\n## You\n\nWhat/is: this?\n\n## Assistant\n\nthe answer\n',
  });
  const json = await saved('JSON');
  assert.equal(json.name, 'What-is-this.json');
  assert.deepEqual(JSON.parse(json.text), {
    longmind: 'chat',
    model: 'fake',
    title: 'What/is: this?',
    messages: [
      { role: 'user', content: 'What/is: this?' },
      { role: 'assistant', content: 'the answer' },
    ],
  });
});

test('system prompt and sampling belong to the conversation; new ones have the usual ones', { skip }, async (t) => {
  const engine = new FakeEngine();
  const { page } = await openPage(t, engine);
  await page.getByLabel('Settings', { exact: true }).click();
  await page.getByLabel('System prompt').fill('Be brief.');
  await page.getByLabel('Temperature').fill('0');
  await page.getByLabel('Top k').fill('7');
  await page.getByLabel('Seed').fill('42');
  await say(page, 'first');
  await answered(page);
  await page.getByRole('button', { name: 'New conversation' }).click();
  await say(page, 'second');
  await answered(page);
  const asked = () =>
    engine.calls.map(({ request }) => {
      const { messages, temperature, topK, seed } = request as ChatRequest;
      return [messages[0]!.role, temperature, topK, seed];
    });
  assert.deepEqual(asked(), [
    ['system', 0, 7, 42],
    ['user', 0.7, 0, undefined],
  ]);
  await page.reload();
  await page.getByRole('button', { name: /^first/ }).click();
  await page.getByLabel('Settings', { exact: true }).click();
  assert.equal(await page.getByLabel('System prompt').inputValue(), 'Be brief.');
  await page.getByRole('button', { name: 'Use for new ones' }).click();
  await page.getByRole('button', { name: 'New conversation' }).click();
  await say(page, 'third');
  await answered(page);
  assert.deepEqual(asked()[2], ['system', 0, 7, 42]);
});

test('a deleted conversation can be had back; its session is forgotten only when nobody wants it', {
  skip,
}, async (t) => {
  const engine = new FakeEngine();
  const { page } = await openPage(t, engine);
  await say(page, 'keep me');
  await answered(page);
  const session = `0/${engine.calls[0]!.request.sessionId}`;
  await page.getByLabel('Delete keep me').click();
  assert.ok(!(await titles(page)).includes('keep me'));
  assert.ok(engine.kept.has(session), 'still there');
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.deepEqual(await titles(page), ['keep me']);
  assert.equal(await answered(page), 'You said: user: keep me');
  await page.clock.install();
  await page.getByLabel('Delete keep me').click();
  await page.clock.fastForward(12_000);
  await until('it is forgotten', () => !engine.kept.has(session), 12_000);
  assert.equal(await page.getByRole('button', { name: 'Undo' }).count(), 0);
});

test('on a phone, what can be undone fits the screen', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine(), { context: { viewport: { width: 360, height: 740 } } });
  await say(page, `a long question ${'that goes on '.repeat(20)}`);
  await answered(page);
  await page.getByRole('button', { name: 'Conversations' }).click();
  await page.getByLabel(/^Delete a long/).click();
  await page.getByRole('button', { name: 'New conversation', exact: true }).click();
  const box = (await page.getByRole('button', { name: 'Undo' }).boundingBox())!;
  assert.ok(box.x >= 0 && box.x + box.width <= 360, JSON.stringify(box));
});

test('the engine can be hidden beside the chat, and stays so', { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine());
  await page.locator('.engine .map canvas').waitFor();
  const wide = async () => (await page.locator('main').boundingBox())!.width;
  const before = await wide();
  const button = page.getByRole('button', { name: "The engine's view" });
  await button.click();
  await page.locator('.engine').waitFor({ state: 'hidden' });
  assert.ok((await wide()) > before + 300);
  await page.reload();
  await page.locator('.dot.live').waitFor();
  assert.equal(await page.locator('.engine').isVisible(), false);
  assert.equal(await button.getAttribute('aria-pressed'), 'false');
  await button.click();
  await page.locator('.engine .map canvas').waitFor();
  // on a narrow screen the two take turns, whatever was hidden here
  await button.click();
  await page.setViewportSize({ width: 800, height: 800 });
  await page.getByRole('button', { name: 'Engine', exact: true }).click();
  await page.locator('.engine').waitFor();
});

test("the model's card says what it is, and Escape closes it", { skip }, async (t) => {
  const { page } = await openPage(t, new FakeEngine());
  await page.getByTitle('About this model').click();
  const card = page.getByRole('dialog');
  const text = await textOf(card);
  for (const part of ['Parameters', 'Q8_0', 'layers of', 'KV cache', '100,000 tokens'])
    assert.ok(text.includes(part), part);
  await page.keyboard.press('Escape');
  await card.waitFor({ state: 'hidden' });
});
