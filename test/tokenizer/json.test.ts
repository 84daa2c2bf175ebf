/** tokenizer.json of every kind gives the ids of the `tokenizers` library. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { createTokenizer } from '../../src/tokenizer/index.js';
import { awkwardTexts } from './texts.js';

const FOLDER = path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures/tokenizer-json');
const texts = awkwardTexts(2000);
const digest = (found: ArrayLike<number>, plain: ArrayLike<number>): string =>
  createHash('sha256')
    .update(`${Array.from(found).join()};${Array.from(plain).join()}`)
    .digest('hex')
    .slice(0, 6);

interface TokenizerFixture {
  tokenizer: unknown;
  start: number[];
  digests: string;
}

for (const file of readdirSync(FOLDER)) {
  const name = file.replace(/\.json$/, '');
  const fixture = JSON.parse(readFileSync(path.join(FOLDER, file), 'utf8')) as TokenizerFixture;
  const tokenizer = createTokenizer(new Map([['tokenizer.huggingface.json', JSON.stringify(fixture.tokenizer)]]));
  describe(`tokenizer.json, ${name}`, () => {
    it('gives the ids of the tokenizers library on 2,000 awkward texts', () => {
      assert.equal(fixture.digests.length, 6 * texts.length);
      texts.forEach((text, i) => {
        const found = tokenizer.encode(text, { special: true });
        // the library's unigram model makes special tokens of their spellings; here no text becomes one
        const plain = name.startsWith('unigram') ? [] : tokenizer.encode(text, { special: false });
        assert.equal(
          digest(found, plain),
          fixture.digests.slice(6 * i, 6 * i + 6),
          `text ${i}: ${JSON.stringify(text)}: ${Array.from(found, (id) => tokenizer.tokenText(id)).join('|')}`,
        );
      });
    });
    it('puts in front of a text what its template says', () =>
      assert.deepEqual([...tokenizer.startTokens], fixture.start));
    it('never makes a special token of a text that spells one', () => {
      for (const text of tokenizer.controlTexts())
        for (const id of tokenizer.encode(`a ${text} b${text}`, { special: false }))
          assert.ok(tokenizer.tokenBytes.special[id] === 0 || tokenizer.tokenText(id) === '<unk>', text);
    });
  });
}
