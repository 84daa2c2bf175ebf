/**
 * Property-based testing of the HTTP API from its own /openapi.json, by schemathesis: no answer may be a 5xx, or be one that the
 * document does not describe, and what the document forbids must be refused.
 *
 *   node bench/api-fuzz.mjs [--cases 3000 | --short] [--seed 1] [--model REF]
 *
 * Rounds with new seeds run until so many requests were answered. Each has two phases: cases that go through every keyword of
 * the schemas in turn, and random ones. --short: one round, with few random cases, and without the first phase of the
 * operations whose bodies are large (most of the time goes there). Every operation is asked in either form. The engine is the real one, with the vocabulary of the
 * model, over the device that computes nothing. Exit status 3: schemathesis cannot be installed here.
 */
import '../dist/bench/plain-errors.js';
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createEngine } from '../dist/src/index.js';
import { createServer } from '../dist/src/server/index.js';

const CANNOT_INSTALL = 3;
/** A round that answers fewer requests is the last: the document has no more to give. */
const LEAST = 10;
/** Characters of the description of a path's operations. */
const LARGE = 4000;
/** Random cases for each operation, in the short form. */
const SHORT_EXAMPLES = 5;
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
    cases: { type: 'string', default: '3000' },
    short: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    model: { type: 'string', default: 'default' },
  },
});
const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');

/** Folder of the installed package. */
function schemathesis() {
  const script = path.join(root, 'scripts', 'clients.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, 'schemathesis'], { encoding: 'utf8' });
  if (status === 0) return stdout.trim();
  console.error(`SKIPPED: ${stderr.trim()}`);
  process.exit(CANNOT_INSTALL);
}

/** What the server answered so far: requests, those with 5xx, and the operations that were asked. */
async function answered(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const counts = { total: 0, failed: 0, asked: new Set() };
  const line = /^longmind_http_requests_total\{route="([^"]*)",method="([^"]*)",status="(\d+)"\} (\d+)$/gm;
  for (const [, route, method, status, n] of text.matchAll(line)) {
    counts.total += Number(n);
    if (Number(status) >= 500) counts.failed += Number(n);
    counts.asked.add(`${method} ${route.replace(/:(\w+)/g, '{$1}').replace('*', '{name}')}`);
  }
  return counts;
}

/** One run of schemathesis; resolves with its status and what it said. */
function run(folder, url, { phases, examples, seed, without }) {
  const args = [path.join(folder, 'bin', 'schemathesis'), 'run', `${url}/openapi.json`, '--phases', phases];
  args.push('--checks', CHECKS.join(','));
  args.push('--max-examples', String(examples), '--seed', String(seed), '--no-shrink', '--request-timeout', '20');
  args.push('--suppress-health-check', 'all', '--warnings', 'off', '--no-color');
  for (const operation of without ?? []) args.push('--exclude-path', operation);
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

/** The runs of a round. */
function runsOf(paths, operations, seed) {
  if (!values.short)
    return [{ phases: 'coverage,fuzzing', examples: Math.ceil(Number(values.cases) / operations.length), seed }];
  const without = Object.keys(paths).filter((p) => JSON.stringify(paths[p]).length > LARGE);
  return [
    { phases: 'coverage', examples: 1, seed, without },
    { phases: 'fuzzing', examples: SHORT_EXAMPLES, seed },
  ];
}

const folder = schemathesis();
const engine = await createEngine({ model: values.model, device: 'null', cacheMaxEntryCount: 256 });
const server = await createServer(engine, { serverPort: 0, logLevel: 'error' });
const { paths } = await (await fetch(`${server.url}/openapi.json`)).json();
const operations = Object.entries(paths).flatMap(([at, methods]) =>
  Object.keys(methods).map((m) => `${m.toUpperCase()} ${at}`),
);
const wanted = values.short ? 1 : Number(values.cases);
let counts = { total: 0, failed: 0, asked: new Set() };
let bad = 0;
for (let seed = Number(values.seed); counts.total < wanted && bad === 0; seed++) {
  const before = counts.total;
  // Python computes most of the time, on one core
  const runs = await Promise.all(runsOf(paths, operations, seed).map((r) => run(folder, server.url, r)));
  counts = await answered(server.url);
  for (const { status, out } of runs) {
    if (status === 0 && counts.failed === 0) continue;
    console.log(out);
    bad = 1;
  }
  if (counts.total - before < LEAST) break;
}
const unasked = operations.filter((o) => !counts.asked.has(o));
console.log(
  JSON.stringify({
    operations: operations.length,
    unasked,
    requests: counts.total,
    serverErrors: counts.failed,
    ok: bad === 0,
  }),
);
await server.close({ drainMs: 0 });
await engine.close();
process.exitCode = bad;
