/**
 * Mutated files of models: headers of safetensors and GGUF, index, config.json, tokenizer.json, adapters and more. Whatever they
 * hold, reading them ends soon, with a model or with a typed error, and without taking memory that the files do not have.
 */
import { LongmindError } from '../../src/errors.js';
import { random } from '../device/support.js';
import { allTargets, type Target } from './fuzz-targets.js';

/** What became of the rounds of a target. */
export interface TargetReport {
  read: number;
  refused: number;
  /** The longest round, ms of processor time; the most memory that one took. */
  slowest: number;
  bytes: number;
}

export interface FuzzFailure {
  target: string;
  /** Of the round: `fuzzModels(1, seed)` plays it again. */
  seed: number;
  problem: string;
}

export interface FuzzReport {
  rounds: number;
  targets: Record<string, TargetReport>;
  failures: FuzzFailure[];
}

/** A round may take so much of a processor, and of memory. */
const MAX_MS = 5000;
const MAX_BYTES = 256 * 2 ** 20;

/** Each round has a seed of its own, which says its target too. */
export function fuzzModels(rounds: number, firstSeed: number, onRound?: (seed: number) => void): FuzzReport {
  const targets = allTargets();
  const report: FuzzReport = { rounds, targets: {}, failures: [] };
  for (const { name } of targets) report.targets[name] = { read: 0, refused: 0, slowest: 0, bytes: 0 };
  for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
    const target = targets[seed % targets.length]!;
    onRound?.(seed);
    for (const problem of play(target, seed, report.targets[target.name]!))
      report.failures.push({ target: target.name, seed, problem });
  }
  return report;
}

/** Memory that the process has, and buffers that are not touched yet. */
function taken(): number {
  const { rss, arrayBuffers } = process.memoryUsage();
  return rss + arrayBuffers;
}

function play(target: Target, seed: number, report: TargetReport): string[] {
  const problems: string[] = [];
  const before = taken();
  const start = process.cpuUsage();
  try {
    target.run(random(seed));
    report.read++;
  } catch (e) {
    report.refused++;
    // a code of the native library says that something went wrong which nobody had thought of
    if (!(e instanceof LongmindError) || e.code === 'native_error')
      problems.push(e instanceof Error ? (e.stack ?? e.message) : String(e));
  }
  const { user, system } = process.cpuUsage(start);
  const ms = (user + system) / 1000;
  const bytes = taken() - before;
  report.slowest = Math.max(report.slowest, ms);
  report.bytes = Math.max(report.bytes, bytes);
  if (ms > MAX_MS) problems.push(`${ms.toFixed(0)} ms of a processor`);
  if (bytes > MAX_BYTES) problems.push(`${bytes} bytes`);
  return problems;
}
