// Token ids of node-llama-cpp for the texts of test/tokenizer/texts.ts, so that tests can compare without it.
// Usage: node bench/peers/tokenizer-fixture.mjs MODEL.gguf NAME   → test/fixtures/tokenizer/NAME.json
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { getLlama } from 'node-llama-cpp';
import { texts } from '../../dist/test/tokenizer/texts.js';

const [, , modelPath, name] = process.argv;
if (!modelPath || !name) {
  console.error('usage: node bench/peers/tokenizer-fixture.mjs MODEL.gguf NAME');
  process.exit(2);
}
const folder = path.resolve(import.meta.dirname, '../../test/fixtures/tokenizer');
const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' });
const model = await llama.loadModel({ modelPath, vocabOnly: true });
const rows = texts.map((text) => ({
  plain: [...model.tokenize(text, false)],
  special: [...model.tokenize(text, true)],
}));
writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify({ model: path.basename(modelPath), rows })}\n`);
console.log(`${rows.length} texts`);
await llama.dispose();
