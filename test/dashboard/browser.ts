/** A headless Chromium for a test file, pages that note what must not happen, and a server over a given engine. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, type TestContext } from 'node:test';
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core';
import { createServer, type LongmindServer, type ServerOptions } from '../../src/server/index.js';
import type { Engine } from '../../src/types.js';

const CHROMIUM = '/usr/bin/chromium';
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** For node:test's `skip` option: false, or the reason, which is also said aloud. */
export const skip: string | false = existsSync(CHROMIUM)
  ? false
  : `there is no ${CHROMIUM} here: the page is NOT tested in a browser (Debian: apt-get install chromium)`;
if (skip) console.warn(skip);

let browser: Browser | null = null;
after(async () => {
  await browser?.close();
});

export interface Watched {
  page: Page;
  server: LongmindServer;
}

interface OpenOptions {
  server?: ServerOptions;
  context?: BrowserContextOptions;
  /** Failed requests are part of the test; Chromium writes a line to the console for each. */
  expected?: RegExp;
}

/** The page of a server over `engine`. When the test ends: no error on the console, no request to anywhere else. */
export async function openPage(t: TestContext, engine: Engine, options: OpenOptions = {}): Promise<Watched> {
  browser ??= await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  const server = await createServer(engine, { serverPort: 0, logLevel: 'silent', ...options.server });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options.context });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const bad: string[] = [];
  page.on('console', (m) => {
    if (!['error', 'warning'].includes(m.type())) return;
    if (options.expected?.test(m.text())) return;
    bad.push(`console: ${m.text()}`);
  });
  page.on('pageerror', (e) => bad.push(`exception: ${e.message}`));
  page.on('request', (r) => {
    if (!r.url().startsWith(server.url)) bad.push(`a request left the origin: ${r.url()}`);
  });
  t.after(async () => {
    await context.close();
    await server.close({ drainMs: 0 });
    await engine.close();
    assert.deepEqual(bad, []);
  });
  await page.goto(server.url);
  return { page, server };
}

/** Writes a message and sends it. */
export async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

/** The last answer, once it has ended. */
export async function answered(page: Page): Promise<string> {
  const answer = page.locator('.turn').last().locator('.answer');
  await answer.and(page.locator(':not([data-state="running"])')).waitFor();
  return textOf(answer.locator('.markdown'));
}

/** Number in words like 'cached 1,234 of 2,345' of the last answer: [1234, 2345]. */
export async function cachedOf(page: Page): Promise<[number, number]> {
  const text = await textOf(page.locator('.turn').last().locator('[data-number="cached"]'));
  const [a, b] = [...text.matchAll(/[\d,]+/g)].map((m) => Number(m[0].replaceAll(',', '')));
  return [a!, b!];
}

export const textOf = async (l: Locator): Promise<string> => ((await l.textContent()) ?? '').trim();
