// node-llama-cpp in a process of its own: node peer.mjs MODEL WORK THREADS → one JSON line. See run.mjs for the works.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { promptIds, works } from './works.mjs';

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

async function decode(sequence, count) {
  let n = 0;
  for await (const _ of sequence.evaluate([500], { temperature: 0, yieldEogToken: true })) if (++n >= count) break;
  return n;
}

async function measure(rep) {
  for (const s of sequences) await s.clearHistory();
  if (work.kind === 'load') {
    await sequences[0].evaluateWithoutGeneratingNewTokens(promptIds(work.prompt, 0, 0));
    await decode(sequences[0], 1);
    return performance.now() - started;
  }
  for (let i = 0; i < sequences.length; i++) {
    if (work.before) await sequences[i].evaluateWithoutGeneratingNewTokens(promptIds(work.before, rep, i));
  }
  let t = performance.now();
  if (work.kind === 'prefill') {
    await sequences[0].evaluateWithoutGeneratingNewTokens(promptIds(work.prompt, rep, 77));
    return (work.prompt / (performance.now() - t)) * 1e3;
  }
  for (let i = 0; i < sequences.length; i++) {
    await sequences[i].evaluateWithoutGeneratingNewTokens(promptIds(work.prompt, rep, i));
  }
  t = performance.now();
  const counts = await Promise.all(sequences.map((s) => decode(s, work.tokens)));
  return (counts.reduce((a, b) => a + b, 0) / (performance.now() - t)) * 1e3;
}

const values = [];
for (let rep = 0; rep < work.reps; rep++) values.push(await measure(rep));
console.log(JSON.stringify({ values }));
process.exit(0);
