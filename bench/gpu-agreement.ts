/**
 * npm run bench:gpu-agreement -- MODEL.gguf [--ids FILE] [--torch] [--json]: the GPU against the CPU on a real model, teacher-forced;
 * with --torch also against PyTorch on the same card (python3 with torch and transformers), whose f32 is the measure of all: so it is
 * seen whether the GPU errs more than PyTorch's own bf16. FILE: JSON, a list of texts of token ids (default: test/fixtures/agreement/text.md).
 * --cpu FILE: what the CPU says is read from there, and written there the first time, for GPU machines that are wanted for the GPU.
 */
import './plain-errors.js';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createCpuDevice } from '../src/device/cpu/index.js';
import { createCudaDevice } from '../src/device/cuda/index.js';
import { createStep, type Device } from '../src/device/device.js';
import { llama } from '../src/model/llama.js';
import { createTokenizerClient } from '../src/tokenizer/index.js';
import { type GgufFile, readGguf, readModelConfig } from '../src/weights/index.js';

const CHUNK = 512;
/** Texts are cut to so many tokens. */
const WINDOW = 1024;
/** Where the best leads by less (natural logarithm) either answer is right. */
const TIE = 0.05;
const root = fileURLToPath(new URL('../../', import.meta.url));

/** What one implementation says at each position of a text. */
interface Judgement {
  top: number[];
  /** By how much the likeliest leads. */
  margin: number[];
  /** Log-probability of the token that follows; one fewer. */
  follows: number[];
}

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    ids: { type: 'string', default: '' },
    device: { type: 'string', default: 'cuda' },
    cpu: { type: 'string', default: '' },
    torch: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const [file] = positionals;
if (!file) {
  console.error('usage: npm run bench:gpu-agreement -- MODEL.gguf [--ids FILE] [--torch] [--json]');
  process.exit(2);
}

async function readTexts(gguf: GgufFile, vocab: number): Promise<number[][]> {
  if (args.ids) return (JSON.parse(readFileSync(args.ids, 'utf8')) as number[][]).map((ids) => ids.slice(0, WINDOW));
  const tokenizer = await createTokenizerClient(gguf.metadata, { modelVocab: vocab });
  const ids = [
    ...(await tokenizer.encode(readFileSync(path.join(root, 'test/fixtures/agreement/text.md'), 'utf8'), {
      special: false,
    })),
  ];
  await tokenizer.close();
  const texts = [];
  for (let at = 0; at + 2 <= ids.length; at += WINDOW) texts.push(ids.slice(at, at + WINDOW));
  return texts;
}

function judge(device: Device, gguf: GgufFile, texts: readonly number[][]): Judgement[] {
  const { dims, rmsEps, rope, tiedOutput, flags, tensors } = readModelConfig(gguf);
  const { vocab, layers, kvHeads, headDim } = dims;
  const blocks = WINDOW / 64;
  const limits = { maxTokens: CHUNK, maxRows: 1, maxBlocksPerRow: blocks, maxLogits: CHUNK, vocab };
  const kv = { layers, kvHeads, headDim, blockLen: 64, bits: 16 as const };
  const weights = { path: file!, tensors };
  device.load(llama({ ...dims, rmsEps, rope, tiedOutput, flags }), weights, { limits, kv, maxBlocks: blocks });
  device.growKv(blocks);
  const step = createStep(limits);
  for (let b = 0; b < blocks; b++) step.blockTables[b] = b;
  const result = texts.map((ids) => {
    const all: Judgement = { top: [], margin: [], follows: [] };
    for (let at = 0; at < ids.length; at += CHUNK) {
      const n = Math.min(CHUNK, ids.length - at);
      step.rowCount = 1;
      step.tokenCount = step.logitCount = n;
      step.rowStart.set([0, n]);
      for (let i = 0; i < n; i++) {
        step.tokens[i] = ids[at + i]!;
        step.positions[i] = at + i;
        step.logitRows[i] = i;
        step.topLogprobs[i] = 2;
        step.scoreToken[i] = ids[at + i + 1] ?? -1;
      }
      const drawn = device.wait(device.submit(step));
      const perRow = drawn.topLogprobs.length / limits.maxLogits;
      for (let i = 0; i < n; i++) {
        all.top.push(drawn.tokens[i]!);
        all.margin.push(drawn.topLogprobs[i * perRow]! - drawn.topLogprobs[i * perRow + 1]!);
        if (at + i + 1 < ids.length) all.follows.push(drawn.scoreLogprobs[i]!);
      }
    }
    return all;
  });
  device.close();
  return result;
}

function askTorch(texts: readonly number[][]): Record<'f32' | 'bf16', Judgement[]> & { device: string } {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-ids-'));
  const ids = path.join(folder, 'ids.json');
  writeFileSync(ids, JSON.stringify(texts));
  const script = path.join(root, 'bench/cuda/agreement.py');
  const r = spawnSync('python3', [script, file!, ids], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  rmSync(folder, { recursive: true });
  const line = r.stdout.split('\n').findLast((l) => l.startsWith('{'));
  if (!line) throw new Error(`PyTorch failed: ${r.stderr.slice(-2000)}`);
  return JSON.parse(line);
}

/** How far b is from a. */
function compare(a: Judgement[], b: Judgement[]) {
  const top = a.flatMap((x) => x.top);
  const margin = a.flatMap((x) => x.margin);
  const others = b.flatMap((x) => x.top);
  const same = top.map((t, i) => t === others[i]);
  const clear = same.filter((_, i) => margin[i]! >= TIE);
  const share = (list: boolean[]) => list.filter(Boolean).length / list.length;
  const follows = b.flatMap((x) => x.follows);
  const deltas = a.flatMap((x) => x.follows).map((p, i) => Math.abs(p - follows[i]!));
  return {
    argmax: share(same),
    /** Leaving out near ties. */
    argmaxClear: share(clear),
    positions: same.length,
    ties: same.length - clear.length,
    meanDelta: deltas.reduce((x, y) => x + y, 0) / deltas.length,
    maxDelta: Math.max(...deltas),
  };
}

const gguf = readGguf(file);
const texts = await readTexts(gguf, readModelConfig(gguf).dims.vocab);
const cpu: Judgement[] = existsSync(args.cpu)
  ? JSON.parse(readFileSync(args.cpu, 'utf8'))
  : judge(createCpuDevice(), gguf, texts);
if (args.cpu && !existsSync(args.cpu)) writeFileSync(args.cpu, JSON.stringify(cpu));
const gpu = judge(args.device === 'cpu' ? createCpuDevice() : createCudaDevice(), gguf, texts);
const rows: Record<string, ReturnType<typeof compare>> = { 'GPU to CPU': compare(cpu, gpu) };
if (args.torch) {
  const torch = askTorch(texts);
  rows['GPU to PyTorch bf16'] = compare(torch.bf16, gpu);
  rows['GPU to PyTorch f32'] = compare(torch.f32, gpu);
  rows['CPU to PyTorch f32'] = compare(torch.f32, cpu);
  rows['PyTorch bf16 to its f32'] = compare(torch.f32, torch.bf16);
}
const name = path.basename(file);
if (args.json) console.log(JSON.stringify({ model: name, rows }));
else
  for (const [what, r] of Object.entries(rows))
    console.log(
      `${name}  ${what.padEnd(24)} argmax ${(100 * r.argmax).toFixed(2)}% of ${r.positions}, ${(100 * r.argmaxClear).toFixed(2)}% without ` +
        `${r.ties} near ties; log-probability: mean difference ${r.meanDelta.toFixed(4)}, largest ${r.maxDelta.toFixed(3)}`,
    );
// the CPU multiplies quantised weights by activations of 8 bits: where PyTorch was asked, its f32 is the judge
process.exit(rows[args.torch ? 'GPU to PyTorch f32' : 'GPU to CPU']!.argmax >= 0.99 ? 0 : 1);
