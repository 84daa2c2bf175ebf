/**
 * npm run bench:speculation [-- --json --only TEXT --rounds 3 --models DIR --draft-layers N --no-fail]: tokens a second with and
 * without guessed tokens. Every token that comes out is given beforehand, so that both sides say the same real text on any weights: code that is
 * edited, facts copied from a document, records of one shape, and prose that repeats nothing. Both sides in turns, medians.
 * --draft-layers: with a draft model too, made of the model's own first layers (the one real pair of one vocabulary at hand; it
 * was not trained to stop there).
 * About 6 minutes on 2 cores, and some more the first time, for writing the 1 B model.
 */
import './plain-errors.js';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type EngineConfig, engineOptions, greedySampling, parseOptions } from '../src/config.js';
import { createCpuDevice } from '../src/device/cpu/index.js';
import type { Device, Step, StepResult, Ticket } from '../src/device/device.js';
import { Core } from '../src/engine/core.js';
import { type DraftModel, openDraft } from '../src/engine/draft.js';
import { defaultModel, resolveModel } from '../src/index.js';
import { type LlamaConfig, llama } from '../src/model/llama.js';
import { createTokenizer } from '../src/tokenizer/tokenizer.js';
import type { TensorSource } from '../src/types.js';
import { readGguf, readModelConfig } from '../src/weights/index.js';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    rounds: { type: 'string', default: '3' },
    'draft-layers': { type: 'string' },
    threads: { type: 'string', default: '2' },
    models: { type: 'string', default: path.join(tmpdir(), 'longmind-bench-models') },
  },
});

interface Text {
  name: string;
  /** What stands before, and what comes out. */
  prompt: string;
  answer: string;
  /** Tokens a second with guesses over without, at least. */
  target: number;
  sequences: number;
}

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..', '..');
const read = (name: string) => readFileSync(path.join(root, name), 'utf8');

/** Texts that were at hand and not written for this: our own sources and documents. */
function texts(): Text[] {
  const code = read('src/engine/scheduler.ts').slice(0, 3500);
  const edited = code
    .replaceAll('budget', 'tokenBudget')
    .replaceAll('available', 'freeBlocks')
    .replace('+ blockLen', '+ 1');
  const document = read('docs/sessions.md').slice(0, 4000);
  const facts = document
    .split(/(?<=[.:])\s+/)
    .filter((_, i) => i % 3 === 1)
    .join('\n- ');
  const names = [
    'Ada Marsh',
    'Jonas Weber',
    'Li Na',
    'Omar Haddad',
    'Ruth Okafor',
    'Ivo Petrov',
    'Mina Sato',
    'Paul Novak',
  ];
  const record = (n: string, i: number) =>
    JSON.stringify(
      {
        id: 1000 + 37 * i,
        name: n,
        email: `${n.split(' ')[0]!.toLowerCase()}@example.org`,
        active: i % 3 > 0,
        tags: ['a', 'b'].slice(i % 2),
      },
      null,
      2,
    );
  const records = names.map(record);
  const prose = read('LICENSE').slice(600, 4200);
  const open = { name: 'open text (a licence)', prompt: prose.slice(0, 300), answer: prose.slice(300) };
  return [
    {
      name: 'code that is edited',
      prompt: `Rename budget and available:\n${code}\nEdited:\n`,
      answer: edited,
      target: 1.8,
      sequences: 1,
    },
    { name: 'facts of a document', prompt: `${document}\nFacts:\n- `, answer: facts, target: 1.8, sequences: 1 },
    {
      name: 'records of one shape',
      prompt: `[${records.slice(0, 3).join(',\n')},\n`,
      answer: records.slice(3).join(',\n'),
      target: 1.8,
      sequences: 1,
    },
    { ...open, target: 0.98, sequences: 1 },
    { ...open, name: 'open text, batch of 8', target: 1, sequences: 8 },
    { name: 'code, batch of 8', prompt: `Rename:\n${code}\nEdited:\n`, answer: edited, target: 1, sequences: 8 },
  ];
}

/** Draws what stands in the text of each sequence, whatever the logits say. */
function forced(device: Device, textOf: (slot: number) => Int32Array): Device {
  let step: Step;
  const submit = (s: Step): Ticket => {
    step = s;
    return device.submit(s);
  };
  const wait = (ticket: Ticket): StepResult => {
    const result = device.wait(ticket);
    let row = 0;
    for (let i = 0; i < step.logitCount; i++) {
      const at = step.logitRows[i]!;
      while (step.rowStart[row + 1]! <= at) row++;
      // beyond the end something is drawn for a guess that is too long
      result.tokens[i] = textOf(step.rowSlot[row]!)[step.positions[at]! + 1] ?? 0;
    }
    return result;
  };
  return new Proxy(device, {
    get(target, name) {
      if (name === 'submit') return submit;
      if (name === 'wait') return wait;
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

interface Model {
  name: string;
  file: string;
}

interface Run {
  perSecond: number;
  /** Of the tokens that came out, the share that was guessed. */
  guessed: number;
  /** Steps for each token of a sequence. */
  steps: number;
  /** Of the guesses that were verified, the share that was right. */
  right: number;
  /** Of the tokens that came out, the share that the draft model guessed. */
  byModel: number;
}

const openDevice = () => createCpuDevice({ threads: Number(args.threads) || undefined });

/** The model's first layers as its draft model. */
function draftOf(model: LlamaConfig, weights: TensorSource, config: EngineConfig): DraftModel | null {
  const layers = args['draft-layers'];
  if (layers === undefined) return null;
  const program = llama({ ...model, layers: Number(layers) });
  return openDraft({ program, weights }, config, config.sessionLen, openDevice());
}

/** Tokens a second of one text, from when every sequence has its first token. */
async function run(model: Model, tokens: Tokens, sequences: number, speculation: 'auto' | 'off'): Promise<Run> {
  const gguf = readGguf(model.file);
  const { dims, rmsEps, rope, tiedOutput } = readModelConfig(gguf);
  const options = { speculation, threads: args.threads, sessionLen: 4096, maxBatchSize: 8, cacheMaxEntryCount: 600 };
  const config = parseOptions(engineOptions, options);
  const shape = { ...dims, rmsEps, rope, tiedOutput };
  const weights = { path: model.file, tensors: gguf.tensors };
  const texts = new Map<number, Int32Array>();
  const textOf = (slot: number) => texts.get(core.batch.view().running.find((r) => r.slot === slot)!.request.id)!;
  const begun = new Set<number>();
  let count = 0;
  let accepted = 0;
  let start = 0;
  let stepsBefore = 0;
  const core: Core = new Core(
    {
      program: llama(shape),
      weights,
      config,
      fingerprint: '',
      modelKey: '',
    },
    forced(openDevice(), textOf),
    {
      token: (r) => {
        if (begun.size === sequences) count++;
        else if (begun.add(r.id).size === sequences) {
          start = performance.now();
          stepsBefore = core.batch.counters.steps;
        }
      },
      finished: (f) => {
        accepted += f.acceptedDraftTokens;
      },
      failed: (_, e) => {
        throw e;
      },
    },
    {},
    speculation === 'auto' ? draftOf(shape, weights, config) : null,
  );
  for (let id = 1; id <= sequences; id++) {
    // each begins with a token of its own: nothing is shared
    const text = Int32Array.of(300 + id, ...tokens.prompt, ...tokens.answer);
    texts.set(id, text);
    core.batch.submit({
      id,
      tokens: text.slice(0, 1 + tokens.prompt.length),
      sessionId: null,
      continuation: null,
      stopTokens: [],
      priority: 0,
      owner: 0,
      grammar: null,
      forkOf: null,
      limits: { maxTokens: tokens.answer.length, minTokens: 0, stop: [], stopTokens: [], ignoreEos: true },
      sampling: greedySampling,
    });
  }
  while (core.batch.step());
  const perSecond = count / ((performance.now() - start) / 1e3);
  const stats = core.stats();
  await core.close();
  const { drafts, steps } = stats;
  return {
    perSecond,
    guessed: accepted / (sequences * tokens.answer.length),
    steps: (steps - stepsBefore) / tokens.answer.length,
    right: drafts.accepted / Math.max(1, drafts.verified),
    byModel: (drafts.byModel?.accepted ?? 0) / (sequences * tokens.answer.length),
  };
}

interface Tokens {
  prompt: Int32Array;
  answer: Int32Array;
}

const median = (a: number[]) => [...a].sort((x, y) => x - y)[a.length >> 1]!;

const smol = (await resolveModel(defaultModel, {})).path;
const billion = path.join(args.models, '1b-q8_0.gguf');
if (!existsSync(billion)) {
  mkdirSync(args.models, { recursive: true });
  execFileSync(process.execPath, [path.join(root, 'bench/random-model.mjs'), billion, 'q8_0', '1b'], {
    stdio: 'inherit',
  });
}
const models: Model[] = [
  { name: 'SmolLM2-135M', file: smol },
  { name: '1 B shape Q8_0', file: billion },
];
const encoding = { special: false };
const tokenizer = createTokenizer(readGguf(smol).metadata);
const rows = [];
for (const model of models) {
  for (const text of texts()) {
    if (!`${model.name} ${text.name}`.includes(args.only)) continue;
    const prompt = tokenizer.encode(text.prompt, encoding);
    const tokens = { prompt, answer: tokenizer.encode(text.answer, encoding) };
    const ratios: number[] = [];
    const speeds = { off: [] as number[], auto: [] as number[] };
    let guesses: Run | null = null;
    for (let round = 0; round < Number(args.rounds); round++) {
      const order = round % 2 === 0 ? (['off', 'auto'] as const) : (['auto', 'off'] as const);
      for (const speculation of order) {
        const r = await run(model, tokens, text.sequences, speculation);
        speeds[speculation].push(r.perSecond);
        if (speculation === 'auto') guesses = r;
      }
      ratios.push(speeds.auto.at(-1)! / speeds.off.at(-1)!);
    }
    const row = {
      model: model.name,
      text: text.name,
      tokens: tokens.answer.length,
      sequences: text.sequences,
      off: median(speeds.off),
      auto: median(speeds.auto),
      guessed: guesses!.guessed,
      right: guesses!.right,
      guessedByModel: guesses!.byModel,
      stepsPerToken: guesses!.steps,
      ratio: median(ratios),
      spread: [Math.min(...ratios), Math.max(...ratios)],
      target: text.target,
    };
    rows.push(row);
    if (args.json) continue;
    if (rows.length === 1)
      console.log(
        'model           text                     tokens   without    with  guessed  right  steps/token   ratio (spread)      target',
      );
    const spread = `(${row.spread.map((x) => x.toFixed(2)).join('–')})`;
    console.log(
      `${row.model.padEnd(15)} ${row.text.padEnd(24)} ${String(row.tokens).padStart(6)} ${row.off.toFixed(1).padStart(9)} ` +
        `${row.auto.toFixed(1).padStart(7)} ${`${Math.round(100 * row.guessed)}%`.padStart(8)} ${`${Math.round(100 * row.right)}%`.padStart(6)} ${row.stepsPerToken.toFixed(2).padStart(12)} ${row.ratio.toFixed(2).padStart(7)} ` +
        `${spread.padEnd(13)} >= ${row.target} ${row.ratio >= row.target ? 'ok' : '!!'}`,
    );
  }
}
if (args.json) {
  const device = openDevice();
  const { isa, threads } = device.info;
  device.close();
  const machine = `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${threads} threads, ${isa}`;
  console.log(
    JSON.stringify(
      { machine, date: new Date().toISOString().slice(0, 10), rounds: Number(args.rounds), rows },
      null,
      1,
    ),
  );
}
const missed = rows.filter((r) => r.ratio < r.target);
for (const r of missed) console.error(`missed: ${r.model}, ${r.text}: ${r.ratio.toFixed(2)} (>= ${r.target})`);
if (missed.length > 0 && !args['no-fail']) process.exitCode = 1;
