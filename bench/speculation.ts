/**
 * npm run bench:speculation [-- --json --only TEXT --rounds 3 --models DIR --draft-layers N --no-fail | --calculate]: tokens a second with and
 * without guessed tokens. Every token that comes out is given beforehand, so that both sides say the same real text on any weights: code that is
 * edited, facts copied from a document, records of one shape, and prose that repeats nothing. Both sides in turns, medians.
 * --draft-layers: with a draft model too, made of the model's own first layers (the one real pair of one vocabulary at hand; it
 * was not trained to stop there).
 * --calculate: by what a step of so many rows costs instead of the clock, on more texts, also with times as a busy machine
 * misleads with (speculation-virtual.ts); half a minute on any machine.
 * About 6 minutes on 2 cores, and some more the first time, for writing the 1 B model.
 */
import './plain-errors.js';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type EngineConfig, engineOptions, parseOptions } from '../src/config.js';
import { createCpuDevice } from '../src/device/cpu/index.js';
import type { Device, Step, StepResult, Ticket } from '../src/device/device.js';
import { Core } from '../src/engine/core.js';
import { type DraftModel, openDraft } from '../src/engine/draft.js';
import { defaultModel, resolveModel } from '../src/index.js';
import { type LlamaConfig, llama } from '../src/model/llama.js';
import { createTokenizer } from '../src/tokenizer/tokenizer.js';
import type { TensorSource } from '../src/types.js';
import { readGguf, readModelConfig } from '../src/weights/index.js';
import { moreTexts, requestSaying, root, type Text, texts } from './speculation-texts.js';
import { busyMachine, STEPS, type Tokens, virtualRun } from './speculation-virtual.js';
import { judge } from './targets.js';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
    calculate: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    rounds: { type: 'string', default: '3' },
    'draft-layers': { type: 'string' },
    threads: { type: 'string', default: '2' },
    models: { type: 'string', default: path.join(tmpdir(), 'longmind-bench-models') },
  },
});

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
  const { dims, rmsEps, rope, tiedOutput, flags, tensors } = readModelConfig(readGguf(model.file));
  const options = { speculation, threads: args.threads, sessionLen: 4096, maxBatchSize: 8, cacheMaxEntryCount: 600 };
  const config = parseOptions(engineOptions, options);
  const shape = { ...dims, rmsEps, rope, tiedOutput, flags };
  const weights = { path: model.file, tensors };
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
    core.batch.submit(requestSaying(id, text, 1 + tokens.prompt.length));
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

/** Every text by every table of costs. */
function calculate(): void {
  const rows = [];
  for (const { model, table } of STEPS)
    for (const text of [...texts(), ...moreTexts()]) {
      if (!`${model} ${text.name}`.includes(args.only)) continue;
      const side = (speculation: 'auto' | 'off', slow: () => number) =>
        virtualRun(encoded(text), text.sequences, table, speculation, slow);
      const [off, auto] = [side('off', () => 1), side('auto', () => 1)];
      const misled = off.ms / side('auto', busyMachine()).ms;
      const { steps, verified, accepted } = auto;
      const hostUs = auto.hostUs - off.hostUs;
      const { name, target } = text;
      rows.push({ model, text: name, steps, verified, accepted, hostUs, ratio: off.ms / auto.ms, misled, target });
    }
  const rounded = (v: unknown) => (typeof v === 'number' ? Number(v.toFixed(3)) : v);
  if (args.json) console.log(JSON.stringify({ rows }, null, 1));
  else console.table(rows.map((r) => Object.fromEntries(Object.entries(r).map(([k, v]) => [k, rounded(v)]))));
  const judged = rows.map((r) => ({
    name: `${r.model}, ${r.text}`,
    value: r.ratio,
    target: r.target,
    better: 'more' as const,
  }));
  judge(judged, args['no-fail']);
}

const median = (a: number[]) => [...a].sort((x, y) => x - y)[a.length >> 1]!;

const smol = (await resolveModel(defaultModel, {})).path;
const tokenizer = createTokenizer(readGguf(smol).metadata);
const encoding = { special: false };
const encoded = (text: Text): Tokens => ({
  prompt: tokenizer.encode(text.prompt, encoding),
  answer: tokenizer.encode(text.answer, encoding),
});
if (args.calculate) {
  calculate();
  process.exit();
}

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
const rows = [];
for (const model of models) {
  for (const text of texts()) {
    if (!`${model.name} ${text.name}`.includes(args.only)) continue;
    const tokens = encoded(text);
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
