/**
 * Mutated files of models: headers of safetensors and GGUF, index, config.json, tokenizer.json. Whatever they hold, reading them
 * ends soon, with a model or with a typed error, and without taking memory that the files do not have.
 */
import fs from 'node:fs';
import path from 'node:path';
import { LongmindError } from '../../src/errors.js';
import { createTokenizer } from '../../src/tokenizer/index.js';
import { openModel } from '../../src/weights/index.js';
import { random } from '../device/support.js';
import { awkwardTexts } from '../tokenizer/texts.js';
import { hasGguf, writeGgufOf } from './gguf.js';
import { type Fixture, fixtureNames, readFixture, temporaryFolder, withHeader, writeFolder } from './tiny.js';

type Random = () => number;

/** One kind of file: `run` writes what a mutation made of one of its files, and reads it. */
interface Target {
  name: string;
  run(r: Random): void;
}

export interface FuzzReport {
  rounds: number;
  /** By target: how many were read, and refused. */
  read: Record<string, number>;
  refused: Record<string, number>;
  /** What must not be: the target, the seed of its round, and what came. */
  failures: { target: string; seed: number; problem: string }[];
}

/** A round may take so long on a busy machine, and so much memory. */
const MAX_MS = 10_000;
const MAX_BYTES = 400 * 2 ** 20;

/** Each round has a seed of its own, so that one can be played again: `fuzzModels(1, seed)`. */
export function fuzzModels(rounds: number, firstSeed: number, onRound?: (n: number) => void): FuzzReport {
  const targets = allTargets();
  const report: FuzzReport = { rounds, read: {}, refused: {}, failures: [] };
  for (let i = 0; i < rounds; i++) {
    const seed = firstSeed + i;
    const target = targets[seed % targets.length]!;
    const fail = (problem: string) => report.failures.push({ target: target.name, seed, problem });
    const before = process.memoryUsage.rss();
    const start = performance.now();
    try {
      target.run(random(seed));
      report.read[target.name] = (report.read[target.name] ?? 0) + 1;
    } catch (e) {
      if (!(e instanceof LongmindError)) fail(e instanceof Error ? (e.stack ?? e.message) : String(e));
      report.refused[target.name] = (report.refused[target.name] ?? 0) + 1;
    }
    const ms = performance.now() - start;
    if (ms > MAX_MS) fail(`${ms.toFixed(0)} ms`);
    const grown = process.memoryUsage.rss() - before;
    if (grown > MAX_BYTES) fail(`${grown} bytes`);
    onRound?.(i + 1);
  }
  return report;
}

function allTargets(): Target[] {
  const fixtures = fixtureNames().map(readFixture);
  const sharded = fixtures.filter((f) => f.shards > 1);
  const single = fixtures.filter((f) => f.shards === 1);
  return [
    headerTarget(single.slice(0, 6)),
    fileTarget('index', sharded.slice(0, 4), 'model.safetensors.index.json'),
    fileTarget('config.json', fixtures, 'config.json'),
    tokenizerTarget(),
    ggufTarget(fixtures.filter(hasGguf)),
  ];
}

const options = { sessionLen: 0, weights: 'q8' } as const;
const pick = <T>(r: Random, list: readonly T[]): T => list[Math.floor(r() * list.length)]!;

function headerTarget(fixtures: Fixture[]): Target {
  const cases = fixtures.map((f) => {
    const folder = writeFolder(f);
    const file = path.join(folder, 'model.safetensors');
    const bytes = fs.readFileSync(file);
    const length = Number(bytes.readBigUInt64LE(0));
    return { folder, file, size: bytes.length, header: bytes.toString('utf8', 8, 8 + length) };
  });
  const run = (r: Random) => {
    const { folder, file, size, header } = pick(r, cases);
    const bytes = withHeader(mutateJson(header, r));
    if (r() < 0.1) bytes.writeBigUInt64LE(BigInt(Math.floor(r() * 2 ** 53)) * (r() < 0.5 ? 1n : 2048n));
    fs.writeFileSync(file, bytes);
    // the data is a hole; some files end too early
    fs.truncateSync(file, r() < 0.2 ? Math.floor(r() * size) : size);
    openModel(folder, options);
  };
  return { name: 'safetensors', run };
}

function fileTarget(name: string, fixtures: Fixture[], file: string): Target {
  const cases = fixtures.map((f) => {
    const folder = writeFolder(f);
    return { folder, text: fs.readFileSync(path.join(folder, file), 'utf8') };
  });
  const run = (r: Random) => {
    const { folder, text } = pick(r, cases);
    fs.writeFileSync(path.join(folder, file), mutateJson(text, r));
    openModel(folder, options);
  };
  return { name, run };
}

const TEXTS = awkwardTexts(60);
const TOKENIZERS = path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures/tokenizer-json');

function tokenizerTarget(): Target {
  const cases = fs.readdirSync(TOKENIZERS).map((file) => {
    const fixture = JSON.parse(fs.readFileSync(path.join(TOKENIZERS, file), 'utf8')) as { tokenizer: TokenizerJson };
    // the lists are long and alike: with fewer of them the rest is hit more often
    return JSON.stringify(shortened(fixture.tokenizer));
  });
  const run = (r: Random) => {
    const metadata = new Map([['tokenizer.huggingface.json', mutateJson(pick(r, cases), r)]]);
    const tokenizer = createTokenizer(metadata);
    const ids = tokenizer.encode(pick(r, TEXTS), { special: r() < 0.5, addBos: true });
    tokenizer.decode(ids, { special: true, trimPrefix: true });
  };
  return { name: 'tokenizer.json', run };
}

interface TokenizerJson {
  model: { merges?: unknown[] };
}
const shortened = (t: TokenizerJson): TokenizerJson =>
  t.model.merges ? { ...t, model: { ...t.model, merges: t.model.merges.slice(0, 40) } } : t;

function ggufTarget(fixtures: Fixture[]): Target {
  const folder = temporaryFolder();
  const file = path.join(folder, 'm.gguf');
  const cases = fixtures.map((f) => fs.readFileSync(writeGgufOf(f)));
  const run = (r: Random) => {
    const whole = pick(r, cases);
    const header = mutateBytes(whole.subarray(0, 6000), r);
    fs.writeFileSync(file, header);
    fs.truncateSync(file, r() < 0.2 ? Math.floor(r() * whole.length) : whole.length);
    openModel(file, options);
  };
  return { name: 'gguf', run };
}

// ---------------------------------------------------------------- mutations

function mutateBytes(bytes: Buffer, r: Random): Buffer {
  const out = Buffer.from(bytes);
  for (let n = 1 + Math.floor(r() * 4); n > 0; n--) {
    // most of a header is at its beginning
    const at = Math.floor(r() ** 2 * out.length);
    const kind = r();
    if (kind < 0.5) out[at] = Math.floor(r() * 256);
    else if (kind < 0.7) out[at] = pick(r, [0, 1, 0x7f, 0x80, 0xff]);
    else if (kind < 0.9 && at + 8 <= out.length) out.writeBigUInt64LE(pick(r, HUGE), at);
    else out.copyWithin(at, Math.floor(r() * out.length), Math.floor(r() * out.length));
  }
  return r() < 0.05 ? out.subarray(0, Math.floor(r() * out.length)) : out;
}

const HUGE = [0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 40n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
/** What JSON.stringify could not write: put in as text afterwards. */
const DEEP: Readonly<Record<string, string>> = {
  '"@lists@"': '['.repeat(20_000) + ']'.repeat(20_000),
  '"@sequences@"': `${'{"type":"Sequence","normalizers":[{"type":"Sequence","pretokenizers":['.repeat(2000)}${']}]}'.repeat(2000)}`,
};
const VALUES: readonly ((r: Random) => unknown)[] = [
  () => null,
  () => 0,
  () => -1,
  () => 1,
  () => 2 ** 31 - 1,
  () => 2 ** 31,
  () => 2 ** 53,
  () => 1e308,
  () => 0.5,
  () => true,
  () => '',
  () => 'x'.repeat(3000),
  () => '../../etc/passwd',
  () => '\u0000',
  () => '(?i:a*)*+[^',
  () => [],
  () => ({}),
  () => [2 ** 52, 2 ** 52],
  () => '@lists@',
  () => '@sequences@',
  (r) => Math.floor(r() * 1000),
  (r) =>
    pick(r, [
      'linear',
      'yarn',
      'llama3',
      'longrope',
      'dynamic',
      'F32',
      'U8',
      'Metaspace',
      'Unigram',
      'sliding_attention',
    ]),
];

/** A text that is near to what it was: as bytes, or as JSON with a value exchanged. */
function mutateJson(text: string, r: Random): string {
  if (r() < 0.2) return mutateBytes(Buffer.from(text), r).toString('utf8');
  const root = JSON.parse(text) as unknown;
  for (let n = 1 + Math.floor(r() * 3); n > 0; n--) exchange(root, r);
  return Object.entries(DEEP).reduce((t, [mark, deep]) => t.replaceAll(mark, () => deep), JSON.stringify(root));
}

/** Goes down to a value somewhere, and puts another in its place, or takes it away. */
function exchange(root: unknown, r: Random): void {
  let node = root as Record<string, unknown>;
  for (;;) {
    const keys = Object.keys(node);
    if (keys.length === 0) return;
    const key = pick(r, keys);
    const child = node[key];
    if (typeof child === 'object' && child !== null && r() < 0.85) {
      node = child as Record<string, unknown>;
      continue;
    }
    const kind = r();
    if (kind < 0.15 && !Array.isArray(node)) delete node[key];
    else if (kind < 0.3) node[key] = node[pick(r, keys)];
    else if (kind < 0.4 && typeof child === 'string')
      node[key] = child.slice(0, Math.floor(r() * child.length)) + pick(r, ['(', ']', '+', '\\', '*', '\u{1f600}']);
    else node[key] = pick(r, VALUES)(r);
    return;
  }
}
