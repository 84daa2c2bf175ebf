// What node-llama-cpp makes of the texts of test/tokenizer/texts.ts, so that tests can compare without it.
//   node bench/peers/tokenizer-fixture.mjs MODEL.gguf NAME   ids → test/fixtures/tokenizer/NAME.json
//   node bench/peers/tokenizer-fixture.mjs                   every pre-tokenizer and SentencePiece on small vocabularies,
//                                                            digests of ids → test/fixtures/tokenizer/small.json
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { getLlama } from 'node-llama-cpp';
import {
  digest,
  PRE_TOKENIZERS,
  SMALL_TEXTS,
  smallBpe,
  smallSentencePiece,
} from '../../dist/test/tokenizer/small-vocabulary.js';
import { texts } from '../../dist/test/tokenizer/texts.js';
import { writeGguf } from '../../dist/test/weights/gguf-builder.js';

const folder = path.resolve(import.meta.dirname, '../../test/fixtures/tokenizer');
const [, , modelPath, name] = process.argv;
const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' });

async function rowsOf(modelPath) {
  const model = await llama.loadModel({ modelPath, vocabOnly: true });
  const rows = texts.map((text) => ({
    plain: [...model.tokenize(text, false)],
    special: [...model.tokenize(text, true)],
  }));
  await model.dispose();
  return rows;
}

if (modelPath) {
  if (!name) throw new Error('usage: node bench/peers/tokenizer-fixture.mjs MODEL.gguf NAME');
  const rows = await rowsOf(modelPath);
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify({ model: path.basename(modelPath), rows })}\n`);
} else {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'longmind-'));
  const all = {};
  const add = async (label, metadata) => {
    const rows = await rowsOf(writeGguf(path.join(scratch, 'vocabulary.gguf'), { metadata }));
    all[label] = rows.slice(0, SMALL_TEXTS).map((r) => digest(r.plain, r.special));
  };
  const bpe = smallBpe();
  for (const pre of PRE_TOKENIZERS) await add(pre, { ...bpe, 'tokenizer.ggml.pre': { string: pre } });
  await add('sentencepiece', smallSentencePiece());
  await add('sentencepiece-no-prefix', { ...smallSentencePiece(), 'tokenizer.ggml.add_space_prefix': { bool: false } });
  writeFileSync(path.join(folder, 'small.json'), `${JSON.stringify(all)}\n`);
  rmSync(scratch, { recursive: true });
}
console.log(`${texts.length} texts`);
await llama.dispose();
