// Makes the pictures of docs/dashboard.md and README with a real model: npm run build && node scripts/screenshots.mjs [OUT]
// Needs /usr/bin/chromium; about a minute on an idle machine, whose speed the pictures show.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { createEngine } from '../dist/src/index.js';
import { createServer } from '../dist/src/server/index.js';

const out = path.resolve(process.argv[2] ?? fileURLToPath(new URL('../docs/img', import.meta.url)));
mkdirSync(out, { recursive: true });

const WIDE = { width: 1440, height: 940 };
const PHONE = { width: 390, height: 844 };
const PATIENCE_MS = 300_000;

const engine = await createEngine({ model: 'smollm2', cacheMaxEntryCount: 64, onProgress: () => {} });
const server = await createServer(engine, { serverPort: 0, logLevel: 'silent', servedModelName: ['smollm2'] });
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu'],
});
const context = await browser.newContext({ viewport: WIDE, colorScheme: 'light' });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE_MS);
await page.goto(server.url);

const shot = (name, of = page) => of.screenshot({ path: path.join(out, `dashboard-${name}.png`) });
const answered = () => page.locator('.turn').last().locator('.answer:not([data-state="running"])').waitFor();

async function say(text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
  await answered();
}

// greedy, so that the same words come again
await page.getByLabel('Settings', { exact: true }).click();
await page.getByLabel('Temperature').fill('0');
await page.getByLabel('Longest answer').fill('96');
await page.getByRole('button', { name: 'Use for new ones' }).click();
await page.getByLabel('Settings', { exact: true }).click();
await say('What is the capital of France, and what is it known for?');
await page.getByRole('button', { name: 'New conversation' }).click();
await say('Explain in three sentences what a cache is.');
await say('Give me a Python function that computes the mean of a list.');
await page.waitForTimeout(1000);
await shot('chat');

await page.getByRole('button', { name: 'Pressure' }).click();
await page.locator('.pressure[data-phase="return"], .pressure[data-phase="done"]').first().waitFor();
await page.waitForTimeout(400);
await shot('pressure');
await page.locator('.pressure[data-phase="done"]').waitFor();
await page.getByLabel('Dark colours').click();
await page.getByRole('button', { name: 'Regenerate' }).last().click();
await answered();
await page.waitForTimeout(1000);
await page.locator('.map canvas').hover({ position: { x: 210, y: 55 } });
await shot('dark');
await page.locator('.memory').scrollIntoViewIfNeeded();
await page.waitForTimeout(500);
await shot('charts', page.locator('section.engine'));

await page.setViewportSize(PHONE);
await page.getByRole('button', { name: 'Engine', exact: true }).click();
await page.locator('.map canvas').scrollIntoViewIfNeeded();
await page.evaluate('document.querySelector("section.engine").scrollTo(0, 0)');
await page.waitForTimeout(1000);
await shot('phone');

await browser.close();
await server.close({ drainMs: 0 });
await engine.close();
