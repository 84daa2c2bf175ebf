/**
 * Mutated files of models, many: node dist/bench/model-fuzz.js [--mutations 200000] [--first SEED] [--json] [--save]
 *
 * A process for each piece of them: one that ends by a signal, or does not come to the next rounds within five minutes, is a failure
 * of the round that it was at, and the next process goes on behind it. A round that fails is named by its seed;
 * `--mutations 1 --first SEED` plays it again. --save: into bench/results. Ctrl-C: what is done counts.
 */
import './plain-errors.js';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createCpuDevice } from '../src/device/cpu/index.js';
import { type FuzzReport, fuzzModels, type TargetReport } from '../test/models/fuzz.js';

const PIECE = 10_000;
/** Preparing is four seconds of processor time, which a busy machine does not give at once. */
const SILENCE_MS = 300_000;
/** Rounds between two signs of life. */
const SIGN = 10;

const { values } = parseArgs({
  options: {
    mutations: { type: 'string', default: '200000' },
    first: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    piece: { type: 'boolean', default: false },
  },
});
const mutations = Number(values.mutations);
const first = Number(values.first);

interface Piece {
  report: FuzzReport;
  /** Rounds that it played; peak memory of its process. */
  rounds: number;
  peakBytes: number;
}

/** By the user: what the piece had done until then is not counted. */
let stopped = false;

/** In a process of its own: tells at which seed it is, then what it found. */
function playPiece(): void {
  const report = fuzzModels(mutations, first, (seed) => {
    // written at once: a message would wait for the loop
    if (seed % SIGN === 0 || mutations === 1) fs.writeSync(3, `${seed}\n`);
  });
  fs.writeSync(3, JSON.stringify({ report, peakBytes: process.resourceUsage().maxRSS * 1024 }));
}

async function runPiece(from: number, count: number): Promise<Piece> {
  const args = ['--piece', '--mutations', String(count), '--first', String(from)];
  const child = fork(fileURLToPath(import.meta.url), args, { stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'ipc'] });
  let [at, heard, rest] = [from, Date.now(), ''];
  (child.stdio[3] as NodeJS.ReadableStream).on('data', (chunk: Buffer) => {
    heard = Date.now();
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop()!;
    if (lines.length > 0) at = Number(lines.at(-1));
  });
  let hung = false;
  const stop = () => {
    stopped = true;
    child.kill('SIGKILL');
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const timer = setInterval(() => {
    if (Date.now() - heard < SILENCE_MS) return;
    hung = true;
    child.kill('SIGKILL');
  }, 1000);
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  clearInterval(timer);
  process.removeListener('SIGINT', stop);
  process.removeListener('SIGTERM', stop);
  if (code === 0 && rest !== '') {
    const done = JSON.parse(rest) as Omit<Piece, 'rounds'>;
    return { ...done, rounds: count };
  }
  const problem = hung ? `no sign of life for ${SILENCE_MS} ms` : `the process ended with ${signal ?? code}`;
  const failure = { target: 'process', seed: at, problem: `${problem} in the ${SIGN} rounds from this seed on` };
  const rounds = at + SIGN - from;
  return { report: { rounds, targets: {}, failures: [failure] }, rounds, peakBytes: 0 };
}

function add(sum: TargetReport, one: TargetReport): TargetReport {
  return {
    read: sum.read + one.read,
    refused: sum.refused + one.refused,
    slowest: Math.max(sum.slowest, one.slowest),
    bytes: Math.max(sum.bytes, one.bytes),
  };
}

async function run() {
  const total: FuzzReport = { rounds: 0, targets: {}, failures: [] };
  let peakBytes = 0;
  // not within the first rounds of a piece: compiling takes minutes
  createCpuDevice({ threads: 1 }).close();
  const start = performance.now();
  while (total.rounds < mutations) {
    const piece = await runPiece(first + total.rounds, Math.min(PIECE, mutations - total.rounds));
    if (stopped) break;
    total.rounds += piece.rounds;
    total.failures.push(...piece.report.failures);
    peakBytes = Math.max(peakBytes, piece.peakBytes);
    for (const [name, one] of Object.entries(piece.report.targets))
      total.targets[name] = total.targets[name] ? add(total.targets[name]!, one) : one;
    process.stderr.write(`${total.rounds} of ${mutations}, ${total.failures.length} failures\n`);
  }
  const seconds = Math.round((performance.now() - start) / 1000);
  return { first, ...total, failures: total.failures.slice(0, 50), peakBytes, seconds };
}

function print(report: Awaited<ReturnType<typeof run>>): void {
  for (const [name, t] of Object.entries(report.targets))
    console.log(
      `${name.padEnd(22)} ${t.read} read, ${t.refused} refused; longest ${t.slowest.toFixed(0)} ms, ${(t.bytes / 2 ** 20).toFixed(0)} MiB`,
    );
  const peak = (report.peakBytes / 2 ** 20).toFixed(0);
  console.log(
    `${report.rounds} mutations in ${report.seconds} s, ${report.failures.length} failures, peak ${peak} MiB`,
  );
  for (const f of report.failures) console.log(`${f.target}, seed ${f.seed}: ${f.problem}`);
}

if (values.piece) playPiece();
else {
  const report = await run();
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else print(report);
  if (values.save)
    fs.writeFileSync(
      path.join('bench', 'results', 'model-fuzz.json'),
      `${JSON.stringify({ date: new Date().toISOString().slice(0, 10), node: process.version, ...report }, null, 2)}\n`,
    );
  process.exitCode = report.failures.length > 0 ? 1 : 0;
}
