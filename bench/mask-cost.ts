/**
 * npm run bench:masks [-- MODEL.gguf --rows 16 --steps 400 --fresh --json]: what masks cost of a step, with a real model on the CPU and
 * every row constrained, six schemas in turn. As in the server, equal schemas are one grammar, which is new to the engine
 * when its first request comes; with --fresh every request has a grammar of which nothing was learned.
 */
import './plain-errors.js';
import { parseArgs } from 'node:util';
import {
  compileJsonObject,
  compileJsonSchema,
  compileToolCalls,
  createMatcher,
  prepareVocabulary,
} from 'longmind-grammar';
import { engineOptions, greedySampling, parseOptions } from '../src/config.js';
import { createCpuDevice } from '../src/device/cpu/index.js';
import { Core } from '../src/engine/core.js';
import type { EngineRequest } from '../src/engine/request.js';
import { resolveModel } from '../src/index.js';
import { llama } from '../src/model/llama.js';
import { createTokenizer } from '../src/tokenizer/tokenizer.js';
import { readGguf, readModelConfig } from '../src/weights/index.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '16' },
    steps: { type: 'string', default: '400' },
    fresh: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const rows = Number(args.rows);
const steps = Number(args.steps);

const text = { type: 'string' };
const person = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 60 },
    email: { type: 'string', format: 'email' },
    age: { type: 'integer', minimum: 0, maximum: 130 },
    born: { type: 'string', format: 'date' },
    tags: { type: 'array', items: { enum: ['customer', 'supplier', 'employee', 'friend'] }, maxItems: 4 },
    address: { type: 'object', properties: { street: text, zip: { type: 'string', pattern: '^[0-9]{5}$' } } },
  },
  required: ['name', 'age', 'tags', 'address'],
};
const tree = {
  $ref: '#/$defs/node',
  $defs: {
    node: {
      type: 'object',
      properties: {
        label: text,
        weight: { type: 'number' },
        children: { type: 'array', items: { $ref: '#/$defs/node' } },
      },
      required: ['label', 'children'],
    },
  },
};
const places = Array.from({ length: 2000 }, (_, i) => `place ${(i * 7919) % 2003} of ${i % 97}`);
const grammars = [
  () => compileJsonSchema(person),
  () => compileJsonSchema(tree),
  () => compileJsonObject(),
  () => compileJsonSchema({ type: 'array', items: { enum: places } }),
  () => compileJsonSchema({ type: 'string', minLength: 10, maxLength: 500 }),
  () =>
    compileToolCalls([{ name: 'search', parameters: person }], {
      choice: 'required',
      format: 'hermes',
      parallel: true,
    }),
];

const { path } = await resolveModel(positionals[0] ?? 'default');
const gguf = readGguf(path);
const { dims, rmsEps, rope, tiedOutput, flags, tensors } = readModelConfig(gguf);
const tokenizer = createTokenizer(gguf.metadata);
const config = parseOptions(engineOptions, { cacheMaxEntryCount: rows * 16, maxBatchSize: rows, sessionLen: 1024 });
let live = 0;
const core = new Core(
  {
    program: llama({ ...dims, rmsEps, rope, tiedOutput, flags }),
    weights: { path, tensors },
    config,
    fingerprint: '',
    modelKey: '',
  },
  createCpuDevice(),
  {
    token: () => {},
    finished: () => live--,
    failed: (_, e) => {
      throw e;
    },
  },
);
// as the engine's thread does when it is idle
prepareVocabulary(tokenizer.tokenBytes);
core.setVocabulary({ tokenBytes: tokenizer.tokenBytes, endOfTurn: tokenizer.endTokens });

/** Of this process on any processor (the device's threads sleep meanwhile): what the machine does beside does not count. */
const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

// every matcher's masks, timed
const matchers = Object.getPrototypeOf(
  createMatcher(compileJsonObject(), tokenizer.tokenBytes, tokenizer.endTokens),
) as ReturnType<typeof createMatcher>;
const { fillMask, accept } = matchers;
let maskMs = 0;
matchers.fillMask = function (...a) {
  const t = cpuMs();
  const ok = fillMask.apply(this, a);
  maskMs += cpuMs() - t;
  return ok;
};
matchers.accept = function (token) {
  const t = cpuMs();
  const ok = accept.call(this, token);
  maskMs += cpuMs() - t;
  return ok;
};

const shared = grammars.map((compile) => compile());
let next = 0;
function submit(): void {
  live++;
  const id = ++next;
  const request: EngineRequest = {
    id,
    tokens: Int32Array.from(tokenizer.encode(`Person number ${id}, as JSON:`, { special: false })),
    continuation: null,
    sessionId: null,
    stopTokens: [...tokenizer.endTokens],
    priority: 0,
    owner: 0,
    forkOf: null,
    grammar: null,
    limits: { maxTokens: 200, minTokens: 0, stop: [], stopTokens: [], ignoreEos: false },
    sampling: { ...greedySampling, temperature: 1, seed: id },
  };
  core.batch.submit(request, args.fresh ? grammars[id % grammars.length]!() : shared[id % grammars.length]!);
}

const shares: number[] = [];
const masks: number[] = [];
const times: number[] = [];
while (times.length < steps) {
  while (live < rows) submit();
  maskMs = 0;
  core.batch.step();
  // only steps of all rows, none of them with a prompt to compute
  if (core.batch.view().running.some((r) => r.known - r.computed > 1 || r.generated < 2)) continue;
  times.push(core.batch.lastStepMs);
  masks.push(maskMs);
  shares.push(maskMs / core.batch.lastStepMs);
}
await core.close();

const at = (list: number[], q: number) =>
  [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))]!;
const result = {
  model: path.split('/').at(-1),
  rows,
  steps,
  stepMs: { p50: at(times, 0.5), p99: at(times, 0.99) },
  maskMs: { p50: at(masks, 0.5), p99: at(masks, 0.99), max: at(masks, 1) },
  share: { p50: at(shares, 0.5), p99: at(shares, 0.99), max: at(shares, 1) },
  /** P99 of the masks of a step against the median step: what the other does at the same time does not flatter it. */
  p99MaskOfMedianStep: at(masks, 0.99) / at(times, 0.5),
};
if (args.json) console.log(JSON.stringify(result));
else {
  const percent = (x: number) => `${(100 * x).toFixed(1)}%`;
  console.log(`${result.model}, ${rows} constrained rows, ${steps} decode steps`);
  console.log(`step, ms: P50 ${result.stepMs.p50.toFixed(1)}  P99 ${result.stepMs.p99.toFixed(1)}`);
  console.log(
    `masks of a step, ms: P50 ${result.maskMs.p50.toFixed(2)}  P99 ${result.maskMs.p99.toFixed(2)}  max ${result.maskMs.max.toFixed(2)}`,
  );
  console.log(
    `masks / step: P50 ${percent(result.share.p50)}  P99 ${percent(result.share.p99)}  max ${percent(result.share.max)}; ` +
      `P99 masks / median step ${percent(result.p99MaskOfMedianStep)}`,
  );
}
