// npm run bench:perplexity -- [--model REF] [--file TEXT] [--window N] [--limit N] [--bits 16,8,4] [--flash on,off] [--json]
// Perplexity of one text on one GGUF: ours (KV of 16, 8 and 4 bits) and node-llama-cpp's (its default, KV in f16; flash
// attention on and off), teacher-forced over the same token ids in the same windows; every token but a window's first is scored.
import '../../dist/bench/plain-errors.js';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { compareScores, readInput, scoreWindows } from '../../dist/src/bench/perplexity.js';
import { resolveModel } from '../../dist/src/index.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: 'default' },
    file: { type: 'string', default: '' },
    window: { type: 'string', default: '1024' },
    limit: { type: 'string', default: '0' },
    bits: { type: 'string', default: '16,8,4' },
    flash: { type: 'string', default: 'on,off' },
    json: { type: 'boolean', default: false },
  },
});
const here = path.dirname(new URL(import.meta.url).pathname);
const model = (await resolveModel(args.model, {})).path;
const window = Number(args.window);
const input = await readInput({ model, file: args.file, window, limit: Number(args.limit) });
const { windows, textSha256 } = input;

/** (windows, window - 1) log-probabilities of the tokens that follow. */
function peer(flash) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-ids-'));
  const file = path.join(folder, 'ids.json');
  fs.writeFileSync(file, JSON.stringify(windows));
  const command = [path.join(here, 'peer-logits.mjs'), model, file, flash, '512'];
  const r = spawnSync(process.execPath, command, { encoding: 'utf8', maxBuffer: 2 ** 29 });
  fs.rmSync(folder, { recursive: true });
  const line = r.stdout.split('\n').findLast((l) => l.startsWith('{'));
  if (!line) throw new Error(`the peer failed: ${r.stderr}`);
  const { next, seconds } = JSON.parse(line);
  const logprobs = windows.map((_, w) => Float32Array.from(next.slice(w * window, (w + 1) * window - 1)));
  return { name: `node-llama-cpp, flash attention ${flash}`, logprobs, seconds };
}

const bits = args.bits.split(',').map(Number);
const ours = scoreWindows(input, windows, { bits }).map((s) => ({ ...s, name: `longmind, KV of ${s.bits} bits` }));
const peers = args.flash.split(',').map(peer);
const rows = [...ours, ...peers].map(({ name, logprobs, seconds }) => {
  const own = compareScores(logprobs, ours[0].logprobs);
  const other = compareScores(logprobs, peers[0].logprobs);
  return {
    name,
    perplexity: Math.exp(own.meanNll),
    toFirst: own.ratio,
    toFirstError: own.ratioError,
    toPeer: other.ratio,
    toPeerError: other.ratioError,
    tokensPerSecond: (windows.length * (window - 1)) / seconds,
  };
});
const result = { model: path.basename(model), textSha256, window, windows: windows.length, rows };
if (args.json) console.log(JSON.stringify(result));
else {
  const scored = windows.length * (window - 1);
  console.log(
    `${result.model}, ${windows.length} windows of ${window} tokens, ${scored} tokens scored, text ${textSha256.slice(0, 12)}`,
  );
  console.log(`${''.padEnd(38)} perplexity  to ours, f16        to the peer          tok/s`);
  for (const r of rows) {
    const against = (x, e) => `${(100 * (x - 1)).toFixed(3).padStart(7)}% ± ${(100 * e).toFixed(3)}`;
    const values = `${r.perplexity.toFixed(4).padStart(10)}  ${against(r.toFirst, r.toFirstError)}  ${against(r.toPeer, r.toPeerError)}`;
    console.log(`${r.name.padEnd(38)} ${values}  ${r.tokensPerSecond.toFixed(0).padStart(8)}`);
  }
}
