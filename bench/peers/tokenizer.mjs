// Opening a file and encoding text, ours and node-llama-cpp's, interleaved in one process (medians of 7).
// Usage: node bench/peers/tokenizer.mjs [MODEL.gguf] [--json]
import { getLlama } from 'node-llama-cpp';
import { resolveModel } from '../../dist/src/hub/index.js';
import { createTokenizer } from '../../dist/src/tokenizer/index.js';
import { readGguf } from '../../dist/src/weights/index.js';
import { texts } from '../../dist/test/tokenizer/texts.js';

const args = process.argv.slice(2);
const file = args.find((a) => !a.startsWith('--')) ?? (await resolveModel('default')).path;
const RUNS = 7;
const prose = 'The quick brown fox jumps over the lazy dog, and then (as foxes do) it goes home at 17:45. ';
const repeatTo = (text, bytes) => text.repeat(Math.ceil(bytes / Buffer.byteLength(text)));
const works = {
  '200 kB of English': repeatTo(prose, 200_000),
  '200 kB of awkward texts': repeatTo(texts.join('\n').replace(/\p{Surrogate}/gu, '?'), 200_000),
  '100 kB without a space': 'abcdefghij'.repeat(10_000),
  'one sentence': prose,
};

const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
const time = async (work) => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};
async function compare(ours, peer) {
  const a = [];
  const b = [];
  for (let run = 0; run < RUNS; run++) {
    a.push(await time(ours));
    b.push(await time(peer));
  }
  return { ours: median(a), peer: median(b) };
}

const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' });
const rows = [];
const add = (work, { ours, peer }) => rows.push({ work, ours, peer, unit: 'ms', ratio: peer / ours });
add(
  'open the file, build the tokenizer',
  await compare(
    () => createTokenizer(readGguf(file).metadata),
    async () => (await llama.loadModel({ modelPath: file, vocabOnly: true })).dispose(),
  ),
);
const tokenizer = createTokenizer(readGguf(file).metadata);
const model = await llama.loadModel({ modelPath: file, vocabOnly: true });
for (const [work, text] of Object.entries(works)) {
  const compared = await compare(
    () => tokenizer.encode(text, { special: false }),
    () => model.tokenize(text, false),
  );
  add(work, compared);
}
if (args.includes('--json')) console.log(JSON.stringify({ rows }));
else
  for (const r of rows)
    console.log(`${r.work}: ${r.ours.toFixed(2)} ms, peer ${r.peer.toFixed(2)} ms, ${r.ratio.toFixed(2)}×`);
await llama.dispose();
process.exit(0);
