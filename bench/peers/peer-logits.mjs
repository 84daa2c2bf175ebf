// node-llama-cpp, teacher-forced: node peer-logits.mjs MODEL IDS.json FLASH(on|off) BATCH → JSON {top: ids, logprobs}.
import fs from 'node:fs';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const [, , model, idsFile, flash, batch] = process.argv;
const chunks = JSON.parse(fs.readFileSync(idsFile, 'utf8'));
const llama = await getLlama({ gpu: false, logLevel: LlamaLogLevel.error, build: 'never' });
const loaded = await llama.loadModel({ modelPath: model });
const longest = Math.max(...chunks.map((c) => c.length));
const context = await loaded.createContext({
  contextSize: Math.ceil((longest + 8) / 256) * 256,
  batchSize: Number(batch),
  threads: 2,
  flashAttention: flash === 'on',
});
const sequence = context.getSequence();
const wanted = { generateNext: { logits: { filter: { tokens: [], includeTop: 1 } }, totalLogitWeight: true } };
const top = [];
const logprobs = [];
for (const ids of chunks) {
  await sequence.clearHistory();
  const results = await sequence.controlledEvaluate(ids.map((id) => [id, wanted]));
  for (const r of results) {
    const [token] = r.next.logits.entries().next().value;
    top.push(token);
    // the weight is the sum of exp(logit - max)
    logprobs.push(-Math.log(r.next.totalLogitWeight));
  }
}
console.log(JSON.stringify({ top, logprobs }));
process.exit(0);
