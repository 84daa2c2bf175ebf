// node-llama-cpp, teacher-forced: node peer-logits.mjs MODEL IDS.json FLASH(on|off) BATCH → JSON {top: ids,
// logprobs: of those, next: log-probabilities of the tokens that follow, last token's null, seconds}.
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
const wanted = (following) => ({
  generateNext: {
    logits: { filter: { tokens: following === undefined ? [] : [following], includeTop: 1 } },
    totalLogitWeight: true,
  },
});
const top = [];
const logprobs = [];
const next = [];
const started = performance.now();
for (const ids of chunks) {
  await sequence.clearHistory();
  const results = await sequence.controlledEvaluate(ids.map((id, i) => [id, wanted(ids[i + 1])]));
  for (const [i, r] of results.entries()) {
    const [token, best] = r.next.logits.entries().next().value;
    // the weight is the sum of exp(logit - max)
    const first = -Math.log(r.next.totalLogitWeight);
    top.push(token);
    logprobs.push(first);
    next.push(i + 1 < ids.length ? r.next.logits.get(ids[i + 1]) - best + first : null);
  }
}
const seconds = (performance.now() - started) / 1e3;
// a pipe takes its time: leaving at once would cut a long answer
process.stdout.write(`${JSON.stringify({ top, logprobs, next, seconds })}\n`, () => process.exit(0));
