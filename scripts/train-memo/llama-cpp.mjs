// Does llama.cpp agree? Loads memo.gguf with node-llama-cpp (bench/peers has it, with its native module), plays held-out
// conversations, and compares the most likely tokens with test/fixtures/memo/logits.json. About two minutes.
//
//   cd bench/peers && node ../../scripts/train-memo/llama-cpp.mjs [MODEL] [CONVERSATIONS]
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const here = (path) => new URL(path, import.meta.url);
const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(require.resolve('node-llama-cpp')).href);
const modelPath = process.argv[2] ? resolve(process.argv[2]) : here('../../models/memo/memo.gguf').pathname;
const count = Number(process.argv[3] ?? 5);

const llama = await getLlama({ gpu: false, logLevel: LlamaLogLevel.error, build: 'never' });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 4096, threads: 1 });
const sequence = context.getSequence();
const [START, END] = ['<|im_start|>', '<|im_end|>'].map((t) => model.tokenize(t, true)[0]);
const NEWLINE = model.tokenize('\n');

const opening = (text) => [
  START,
  ...model.tokenize(`user\n${text}`),
  END,
  ...NEWLINE,
  START,
  ...model.tokenize('assistant\n'),
];

async function compareLogits(conversations, fixture) {
  const seen = { positions: 0, agree: 0, answers: 0, agreeInAnswers: 0, worstMargin: 0, worstLogprob: 0 };
  for (const { tokens, argmax, logprob, margin, answers } of fixture.conversations) {
    await sequence.clearHistory();
    // totalLogitWeight is the sum of exp(logit - largest logit)
    const wanted = { generateNext: { logits: { filter: { tokens: [], includeTop: 1 } }, totalLogitWeight: true } };
    const results = await sequence.controlledEvaluate(tokens.map((id) => [id, wanted]));
    results.forEach((result, i) => {
      const [token] = result.next.logits.entries().next().value;
      const same = token === argmax[i];
      const inAnswer = answers.some(([start, end]) => i >= start - 1 && i < end - 1);
      seen.positions++;
      seen.agree += same;
      seen.answers += inAnswer;
      seen.agreeInAnswers += inAnswer && same;
      if (!same) seen.worstMargin = Math.max(seen.worstMargin, margin[i]);
      const error = Math.abs(-Math.log(result.next.totalLogitWeight) - logprob[i]);
      if (inAnswer) seen.worstLogprob = Math.max(seen.worstLogprob, error);
    });
  }
  console.log('logits', JSON.stringify(seen));
  const first = conversations[0].turns[0].user;
  const same = opening(first).every((id, i) => id === fixture.conversations[0].tokens[i]);
  console.log('first turn tokenised alike:', same);
}

async function playConversations(conversations) {
  const contains = (text, word) => {
    const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    return new RegExp(`(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`, 'iu').test(text);
  };
  const rows = {};
  for (const { turns } of conversations.slice(0, count)) {
    await sequence.clearHistory();
    let carry = [];
    for (const { user, expect, distance } of turns) {
      const answer = [];
      const options = { temperature: 0, yieldEogToken: true };
      for await (const token of sequence.evaluate([...carry, ...opening(user)], options)) {
        if (token === END || answer.length >= 80) break;
        answer.push(token);
      }
      carry = [END, ...NEWLINE];
      if (expect === undefined) continue;
      const bound = [120, 300, 1000, 2000, 3000, 4000].find((b) => distance <= b);
      rows[bound] ??= { questions: 0, right: 0 };
      const row = rows[bound];
      row.questions++;
      row.right += contains(model.detokenize(answer), expect);
    }
  }
  console.log('recall', JSON.stringify(rows));
}

const lines = readFileSync(here('../../models/memo/conversations.jsonl'), 'utf8').trim().split('\n');
const conversations = lines.map((line) => JSON.parse(line));
await playConversations(conversations);
await compareLogits(conversations, JSON.parse(readFileSync(here('../../test/fixtures/memo/logits.json'), 'utf8')));
process.exit(0);
