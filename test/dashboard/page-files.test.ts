/** What the server sends for the page: size, headers, caching. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { rig } from '../support/http.js';

const BUDGET_BYTES = 170_000;

test('the page with everything it loads stays under 170 kB gzipped', async (t) => {
  const { get } = await rig(t);
  const html = await (await get('/')).text();
  const urls = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((m) => m[1]!);
  assert.ok(urls.length >= 3, 'script, style sheet, icon');
  let bytes = gzipSync(html).length;
  for (const url of urls) {
    assert.match(url, /^\//, 'only files of this server');
    const response = await get(url);
    assert.equal(response.status, 200);
    bytes += gzipSync(Buffer.from(await response.arrayBuffer()), { level: 9 }).length;
  }
  assert.ok(bytes < BUDGET_BYTES, `${bytes} bytes`);
  t.diagnostic(`the page: ${bytes} bytes gzipped`);
});

test('a strict content security policy; hashed files are kept for ever, the page is checked each time', async (t) => {
  const { get } = await rig(t);
  const page = await get('/');
  assert.match(page.headers.get('content-security-policy')!, /^default-src 'none'; script-src 'self';/);
  assert.equal(page.headers.get('cache-control'), 'no-cache');
  assert.equal(page.headers.get('content-encoding'), 'gzip');
  const html = await page.text();
  assert.ok(!/<script(?![^>]*src=)|style=/.test(html), 'nothing inline');
  const again = await get('/', { 'if-none-match': page.headers.get('etag')! });
  assert.equal(again.status, 304);
  const script = await get(/src="([^"]+)"/.exec(html)![1]!);
  assert.match(script.headers.get('cache-control')!, /immutable/);
  assert.match(script.headers.get('content-type')!, /javascript/);
  const plain = await get('/', { 'accept-encoding': 'identity' });
  assert.equal(plain.headers.get('content-encoding'), null);
  assert.equal(await plain.text(), html);
});

test('the page is not in the API document, the engine’s description is', async (t) => {
  const { get } = await rig(t, { answer: () => '' });
  const { paths } = (await (await get('/openapi.json')).json()) as { paths: Record<string, unknown> };
  assert.ok('/v1/engine' in paths);
  assert.ok(!('/' in paths) && !('/v1/engine/events' in paths));
});
