// node-llama-cpp in a process of its own: node peer.mjs MODEL WORK THREADS. See works.mjs.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { promptIds, serve, works } from './works.mjs';

const [, , model, workName, threads] = process.argv;
const work = works[workName];
const started = performance.now();
const llama = await getLlama({ gpu: false, logLevel: LlamaLogLevel.error, build: 'never' });
const loaded = await llama.loadModel({ modelPath: model });
const context = await loaded.createContext({
  contextSize: work.context,
  sequences: work.sequences,
  batchSize: 512,
  threads: Number(threads),
  flashAttention: true,
});
const sequences = Array.from({ length: work.sequences }, () => context.getSequence());

async function generate(sequence, count) {
  let n = 0;
  for await (const _ of sequence.evaluate([500], { temperature: 0, yieldEogToken: true })) if (++n >= count) break;
  return n;
}
const rewind = (sequence, length) =>
  sequence.nextTokenIndex > length
    ? sequence.eraseContextTokenRanges([{ start: length, end: sequence.nextTokenIndex }])
    : null;

async function prefill(rep) {
  await rewind(sequences[0], work.before);
  const t = performance.now();
  await sequences[0].evaluateWithoutGeneratingNewTokens(promptIds(work.prompt, rep, 77));
  return (work.prompt / (performance.now() - t)) * 1e3;
}

async function decode() {
  for (const s of sequences) await rewind(s, work.prompt);
  const t = performance.now();
  const counts = await Promise.all(sequences.map((s) => generate(s, work.tokens)));
  return (counts.reduce((a, b) => a + b, 0) / (performance.now() - t)) * 1e3;
}

if (work.kind === 'load') {
  await sequences[0].evaluateWithoutGeneratingNewTokens(promptIds(work.prompt, 0, 0));
  await generate(sequences[0], 1);
  const value = performance.now() - started;
  await serve(async () => value);
} else {
  const prepared = work.kind === 'prefill' ? work.before : work.prompt;
  for (const [i, s] of sequences.entries())
    if (prepared) await s.evaluateWithoutGeneratingNewTokens(promptIds(prepared, 0, i));
  const measure = work.kind === 'prefill' ? prefill : decode;
  if (!work.before) await measure(0);
  await serve(measure);
}
process.exit(0);
