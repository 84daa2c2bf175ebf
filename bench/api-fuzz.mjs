/**
 * Property-based testing of the HTTP API from its own /openapi.json, by schemathesis: no answer may be a 5xx, or be one that the
 * document does not describe, and what the document forbids must be refused.
 *
 *   node bench/api-fuzz.mjs [--cases 2000] [--seed 1] [--model REF]
 *
 * Rounds with new seeds run until so many requests were answered. The engine is the real one, with the vocabulary of the
 * model, over the device that computes nothing. Schemathesis is installed from PyPI into
 * node_modules/.cache. Exit status 3: it cannot be installed here.
 */
import '../dist/bench/plain-errors.js';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createEngine } from '../dist/src/index.js';
import { createServer } from '../dist/src/server/index.js';

const VERSION = '4.32.5';
const CANNOT_INSTALL = 3;
/** A round that answers fewer requests is the last: the document has no more to give. */
const LEAST = 10;
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
  'unsupported_method',
];

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
    model: { type: 'string', default: 'default' },
  },
});
const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');

/** Folder of the installed package. */
function schemathesis() {
  const folder = path.join(root, 'node_modules', '.cache', `schemathesis-${VERSION}`);
  if (existsSync(path.join(folder, 'bin', 'schemathesis'))) return folder;
  const args = ['-m', 'pip', 'install', '--quiet', '--target', folder, `schemathesis==${VERSION}`];
  const { status, stderr, error } = spawnSync('python3', args, { encoding: 'utf8', timeout: 240_000 });
  if (status === 0) return folder;
  const why = error?.message ?? stderr.trim().split('\n').at(-1);
  console.error(`SKIPPED: schemathesis cannot be installed here: ${why}`);
  process.exit(CANNOT_INSTALL);
}

async function answered(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  let total = 0;
  let failed = 0;
  for (const [, status, n] of text.matchAll(/^longmind_http_requests_total\{[^}]*status="(\d+)"[^}]*\} (\d+)$/gm)) {
    total += Number(n);
    if (Number(status) >= 500) failed += Number(n);
  }
  return { total, failed };
}

function round(folder, url, examples, seed) {
  const args = [
    path.join(folder, 'bin', 'schemathesis'),
    'run',
    `${url}/openapi.json`,
    '--phases',
    'coverage,fuzzing',
    '--checks',
    CHECKS.join(','),
  ];
  args.push('--max-examples', String(examples), '--seed', String(seed), '--no-shrink', '--request-timeout', '20');
  args.push('--suppress-health-check', 'all', '--warnings', 'off', '--no-color');
  return new Promise((resolve, reject) => {
    const env = { ...process.env, PYTHONPATH: folder };
    const child = spawn('python3', args, { stdio: ['ignore', 'pipe', 'inherit'], cwd: folder, env });
    let out = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, out }));
  });
}

const folder = schemathesis();
const engine = await createEngine({ model: values.model, device: 'null', cacheMaxEntryCount: 256 });
const server = await createServer(engine, { serverPort: 0, logLevel: 'error' });
const { paths } = await (await fetch(`${server.url}/openapi.json`)).json();
const operations = Object.values(paths).reduce((sum, p) => sum + Object.keys(p).length, 0);
const wanted = Number(values.cases);
const counts = { total: 0, failed: 0 };
let bad = 0;
for (let seed = Number(values.seed); counts.total < wanted && bad === 0; seed++) {
  const before = counts.total;
  const { status, out } = await round(folder, server.url, Math.ceil(wanted / operations), seed);
  Object.assign(counts, await answered(server.url));
  if (status !== 0 || counts.failed > 0) {
    console.log(out);
    bad = 1;
  }
  if (counts.total - before < LEAST) break;
}
console.log(JSON.stringify({ operations, requests: counts.total, serverErrors: counts.failed, ok: bad === 0 }));
await server.close({ drainMs: 0 });
await engine.close();
process.exitCode = bad;
