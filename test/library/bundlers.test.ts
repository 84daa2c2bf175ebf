/** A bundled server works as docs/library.md says: longmind stays outside of the bundle. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { root } from '../support/spawn.js';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'longmind-bundle-'));
after(() => rmSync(folder, { recursive: true }));
mkdirSync(join(folder, 'node_modules'));
symlinkSync(root, join(folder, 'node_modules', 'longmind'));
const entry = join(folder, 'app.ts');
writeFileSync(
  entry,
  `import { createEngine, type GenerationResult } from 'longmind';
  import { createServer } from 'longmind/server';
  async function main(): Promise<void> {
    const engine = await createEngine({ model: 'memo', device: 'null', cacheMaxEntryCount: 32 });
    const server = await createServer(engine, { serverPort: 0 });
    const response = await fetch(server.url + '/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'x', max_tokens: 3, ignore_eos: true }),
    });
    const { usage } = (await response.json()) as { usage: { completion_tokens: number } };
    console.log(usage.completion_tokens);
    await server.close();
    await engine.close();
  }
  void main();`,
);

for (const [format, name] of [
  ['esm', 'app.mjs'],
  ['cjs', 'app.cjs'],
] as const) {
  for (const [how, options] of [
    ['external: longmind', { external: ['longmind'] }],
    ['packages: external', { packages: 'external' as const }],
  ] as const) {
    test(`esbuild, ${format}, ${how}`, async () => {
      const outfile = join(folder, name);
      const more = 'external' in options ? { external: [...options.external] } : options;
      await build({
        entryPoints: [entry],
        bundle: true,
        platform: 'node',
        format,
        outfile,
        logLevel: 'silent',
        ...more,
      });
      assert.ok(statSync(outfile).size < 10_000, 'nothing of longmind is inside');
      const { stdout } = await run(process.execPath, ['--no-warnings', outfile], { cwd: folder });
      assert.equal(stdout, '3\n');
    });
  }
}
