// node bench/peers/quantised.mjs [--model REF] [--types Q4_K_M,Q8_0] [--limit N] [--peers FOLDER] [--json]
// Files of `longmind quantize` beside those of llama.cpp's quantiser (node-llama-cpp's library) from the same input: size, types,
// bytes that differ, seconds, and perplexity, both computed here, teacher-forced over this project's documentation.
import '../../dist/bench/plain-errors.js';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { runPerplexity } from '../../dist/src/bench/perplexity.js';
import { quantize, resolveModel } from '../../dist/src/index.js';
import { readGguf } from '../../dist/src/weights/index.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: 'default' },
    types: { type: 'string', default: 'Q4_K_M,Q5_K_M,Q8_0' },
    limit: { type: 'string', default: '16384' },
    peers: { type: 'string', default: import.meta.dirname },
    json: { type: 'boolean', default: false },
  },
});
const input = (await resolveModel(args.model, {})).path;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-quantised-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));

function quantiseThere(output, type) {
  const command = [path.join(import.meta.dirname, 'quantise.mjs'), input, output, type];
  const r = spawnSync(process.execPath, command, { encoding: 'utf8', env: { ...process.env, PEERS: args.peers } });
  if (r.status !== 0) throw new Error(`llama.cpp's quantiser failed: ${r.stderr.slice(-500)}`);
}

function differences(ours, theirs) {
  const [a, b] = [readGguf(ours), readGguf(theirs)];
  const [x, y] = [fs.readFileSync(ours), fs.readFileSync(theirs)];
  let [bytes, differ, types] = [0, 0, 0];
  for (const [name, t] of a.tensors) {
    const u = b.tensors.get(name);
    if (u?.type !== t.type) types++;
    else for (let i = 0; i < t.byteLength; i++) differ += x[t.offset + i] !== y[u.offset + i] ? 1 : 0;
    bytes += t.byteLength;
  }
  return { types, share: differ / bytes, sameSize: a.size === b.size };
}

const perplexity = async (model) =>
  (await runPerplexity({ model, file: '', window: 1024, limit: Number(args.limit), bits: [16] })).rows[0].perplexity;

const rows = [];
for (const type of args.types.split(',')) {
  const [ours, theirs] = ['ours', 'theirs'].map((n) => path.join(folder, `${n}-${type}.gguf`));
  const start = performance.now();
  await quantize(input, ours, { type });
  const middle = performance.now();
  quantiseThere(theirs, type);
  const seconds = [(middle - start) / 1000, (performance.now() - middle) / 1000];
  const [p, q] = [await perplexity(ours), await perplexity(theirs)];
  rows.push({ type, ours: p, theirs: q, ratio: p / q, ...differences(ours, theirs), seconds });
  fs.rmSync(ours);
  fs.rmSync(theirs);
}
if (args.json) console.log(JSON.stringify(rows));
else
  for (const r of rows)
    console.log(
      `${r.type}: perplexity ${r.ours.toFixed(3)}, llama.cpp's file ${r.theirs.toFixed(3)} (${((r.ratio - 1) * 100).toFixed(3)}%), ` +
        `${(100 * r.share).toFixed(3)}% of bytes and ${r.types} types differ, sizes ${r.sameSize ? 'equal' : 'differ'}, ` +
        `${r.seconds.map((s) => s.toFixed(1)).join(' and ')} s`,
    );
