/** Thinking and answer come apart, wherever the text is cut. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REASONING_FORMATS, ReasoningSplitter, reasoningStart } from '../../src/base/reasoning.js';
import { RunningGeneration } from '../../src/engine/generation.js';
import { TokenDecoder } from '../../src/tokenizer/index.js';
import type { ReasoningFormat, ReasoningStart, TokenBytes } from '../../src/types.js';

const THINK = REASONING_FORMATS[1]!;
const WRAPPED = REASONING_FORMATS[0]!;

interface Split {
  reasoning: string | null;
  text: string;
}

function split(format: ReasoningFormat, start: ReasoningStart, pieces: readonly string[]): Split {
  const splitter = new ReasoningSplitter(format, start);
  const out = { reasoning: '', text: '' };
  for (const part of [...pieces.map((p) => splitter.push(p)), splitter.end()]) {
    out.reasoning += part.reasoning;
    out.text += part.text;
  }
  return splitter.began ? out : { ...out, reasoning: null };
}

/** The same in one piece, in characters, and cut in two at every place. */
function splitAllWays(format: ReasoningFormat, start: ReasoningStart, text: string): Split {
  const whole = split(format, start, [text]);
  assert.deepEqual(split(format, start, text.split('')), whole, text);
  for (let i = 1; i < text.length; i++)
    assert.deepEqual(split(format, start, [text.slice(0, i), text.slice(i)]), whole, `${i} of ${text}`);
  return whole;
}

for (const format of REASONING_FORMATS) {
  const { open, close } = format;
  test(`${open} … ${close}: thinking and answer come apart at every cut`, () => {
    const said = { reasoning: 'Hm.\n\n1 < 2', text: 'Yes. \n' };
    for (const blank of ['', '\n', ' \n\n']) {
      const rest = `${blank}Hm.\n\n1 < 2${blank}${close}${blank}Yes. \n`;
      assert.deepEqual(splitAllWays(format, 'inside', rest), said);
      assert.deepEqual(splitAllWays(format, 'before', `${blank}${open}${rest}`), said);
      // what the prompt opened is opened once more
      assert.deepEqual(splitAllWays(format, 'inside', `${open}${rest}`), said);
    }
    // never closed, or the beginning of the mark alone
    const cut = close.slice(0, -1);
    assert.deepEqual(splitAllWays(format, 'inside', `Hm. ${cut}`), { reasoning: `Hm. ${cut}`, text: '' });
    assert.deepEqual(splitAllWays(format, 'before', `${open}Hm `), { reasoning: 'Hm', text: '' });
    assert.deepEqual(splitAllWays(format, 'inside', ''), { reasoning: '', text: '' });
    assert.deepEqual(splitAllWays(format, 'inside', `${close}x`), { reasoning: '', text: 'x' });
    // no thinking at all, and marks that are talked about
    for (const text of ['', ' \n', '  No. ', open.slice(0, -1), `So ${open} a ${close} b`]) {
      assert.deepEqual(splitAllWays(format, 'before', text), { reasoning: null, text });
      assert.deepEqual(splitAllWays(format, 'after', text), { reasoning: null, text });
    }
    const again = `x${close}a ${open} b ${close} c`;
    assert.deepEqual(splitAllWays(format, 'inside', again), { reasoning: 'x', text: `a ${open} b ${close} c` });
  });
}

test('an answer in marks of its own is told without them', () => {
  const said = { reasoning: 'Hm', text: 'Yes.' };
  assert.deepEqual(splitAllWays(WRAPPED, 'before', '<think>Hm</think>\n<response>Yes.</response>'), said);
  assert.deepEqual(splitAllWays(WRAPPED, 'inside', 'Hm</think>Yes.'), said);
  assert.deepEqual(splitAllWays(WRAPPED, 'inside', 'Hm</think><response>Yes.</resp'), { ...said, text: 'Yes.</resp' });
});

test('what a prompt leaves to the model', () => {
  assert.equal(reasoningStart(THINK, '<|im_start|>assistant\n'), 'before');
  assert.equal(reasoningStart(THINK, '<｜Assistant｜><think>\n'), 'inside');
  assert.equal(reasoningStart(THINK, 'assistant\n<think>\n\n</think>\n\n'), 'after');
});

/** Token = byte; then the special tokens. */
const SPECIAL = ['<think>', '</think>', '<tool_call>', '<end>'];
const table: TokenBytes = (() => {
  const tokens = [...Array.from({ length: 256 }, (_, b) => Buffer.of(b)), ...SPECIAL.map((s) => Buffer.from(s))];
  const offsets = new Int32Array(tokens.length + 1);
  tokens.forEach((t, i) => {
    offsets[i + 1] = offsets[i]! + t.length;
  });
  return { bytes: Buffer.concat(tokens), offsets, special: Uint8Array.from(tokens, (_, i) => (i < 256 ? 0 : 1)) };
})();
const idsOf = (...parts: string[]) =>
  parts.flatMap((p) => (SPECIAL.includes(p) ? [256 + SPECIAL.indexOf(p)] : [...Buffer.from(p)]));

async function generate(ids: number[], start: ReasoningStart, stop: string[] = []) {
  const g = new RunningGeneration(1, { stop, minTokens: 0 }, new TokenDecoder(table), {
    abort() {},
    fork: () => assert.fail(),
  });
  g.split(THINK, start, table);
  const events: [number, string, string | null][] = [];
  g.onToken((e) => events.push([e.tokenId, e.text, e.reasoning]));
  for (const id of ids) g.token(id, null);
  g.finish({
    ...{
      id: 1,
      reason: 'stop',
      promptTokens: 1,
      cachedTokens: 0,
      completionTokens: ids.length,
      acceptedDraftTokens: 0,
    },
    ...{ stopString: null, restoredTokens: 0, recomputedTokens: 0, queueMs: 0 },
  });
  const result = await g.result();
  // what streamed is what the result says
  assert.equal(events.map((e) => e[1]).join(''), result.text);
  assert.equal(events.map((e) => e[2] ?? '').join(''), result.reasoning ?? '');
  return { events, ...result };
}

test('a generation tells thinking from answer, whether marks are special tokens or not', async () => {
  for (const parts of [['<think>', '\nHé\n', '</think>', '\n\nJa 🏙'], ['<think>\nHé\n</think>\n\nJa 🏙']]) {
    const ids = parts.length > 1 ? idsOf(...parts) : [...Buffer.from(parts[0]!)];
    const { reasoning, text, usage } = await generate(ids, 'before');
    assert.deepEqual([reasoning, text], ['Hé', 'Ja 🏙']);
    assert.equal(usage.reasoningTokens, ids.length - Buffer.byteLength('Ja 🏙'));
    const inside = await generate(ids.slice(parts.length > 1 ? 1 : '<think>'.length), 'inside');
    assert.deepEqual([inside.reasoning, inside.text], ['Hé', 'Ja 🏙']);
  }
  const none = await generate(idsOf('Ja'), 'before');
  assert.deepEqual([none.reasoning, none.text, none.usage.reasoningTokens], [null, 'Ja', 0]);
  const open = await generate(idsOf('Hm', '<end>'), 'inside');
  assert.deepEqual([open.reasoning, open.text, open.usage.reasoningTokens], ['Hm', '', 3]);
});

test('a token of another kind after the thinking belongs to the answer, and keeps the space after it', async () => {
  const { events, text, reasoning } = await generate(idsOf('Hm', '</think>', '\n\n', '<tool_call>', '\n{}'), 'inside');
  assert.deepEqual([reasoning, text], ['Hm', '\n{}']);
  const call = events.find(([id]) => id === 258)!;
  assert.equal(call[2], null);
  // inside of the thinking it does not
  const inside = await generate(idsOf('a', '<tool_call>', 'b', '</think>', 'c'), 'inside');
  assert.deepEqual([inside.reasoning, inside.text], ['ab', 'c']);
  assert.notEqual(inside.events.find(([id]) => id === 258)![2], null);
});

test('a stop string ends thinking as it ends an answer', async () => {
  const thinking = await generate(idsOf('Hm STOP x'), 'inside', ['STOP']);
  assert.deepEqual([thinking.reasoning, thinking.text], ['Hm', '']);
  const answer = await generate(idsOf('Hm</think>Ja STOP x'), 'inside', ['STOP']);
  assert.deepEqual([answer.reasoning, answer.text], ['Hm', 'Ja ']);
});
