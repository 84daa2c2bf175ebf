/** A folder with a tokenizer.model alone: its ids are SentencePiece's. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { it } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { createTokenizer } from '../../src/tokenizer/index.js';
import { openModel } from '../../src/weights/index.js';
import { awkwardTexts } from '../tokenizer/texts.js';
import { readFixture, writeFolder } from './tiny.js';

const FILE = path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures/sentencepiece.json');
const fixture = JSON.parse(fs.readFileSync(FILE, 'utf8')) as { model: string; digests: string };
const bytes = Buffer.from(fixture.model, 'base64');

function folderWith(model: Buffer, config: unknown = {}): string {
  const folder = writeFolder(readFixture('internlm2'));
  fs.rmSync(path.join(folder, 'tokenizer.json'));
  fs.writeFileSync(path.join(folder, 'tokenizer.model'), model);
  fs.writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify(config));
  return folder;
}
const open = (folder: string) => openModel(folder, { sessionLen: 0, weights: 'file' });

it('gives the ids of the sentencepiece library on 2,000 awkward texts', () => {
  const tokenizer = createTokenizer(open(folderWith(bytes)).metadata);
  awkwardTexts(2000).forEach((text, i) => {
    const want = fixture.digests.slice(6 * i, 6 * i + 6);
    // the library ends a text where a NUL is
    if (want === '------') return;
    const ids = tokenizer.encode(text, { special: false });
    const got = createHash('sha256').update(ids.join()).digest('hex').slice(0, 6);
    assert.equal(
      got,
      want,
      `text ${i}: ${JSON.stringify(text)}: ${Array.from(ids, (id) => tokenizer.tokenText(id)).join('|')}`,
    );
  });
});

it('takes added tokens from tokenizer_config.json, in the place of pieces and behind them', () => {
  const added_tokens_decoder = {
    650: { content: '<|im_start|>', special: true },
    701: { content: '<|im_end|>', special: true },
  };
  const tokenizer = createTokenizer(open(folderWith(bytes, { added_tokens_decoder, add_bos_token: false })).metadata);
  assert.deepEqual([...tokenizer.encode('<|im_start|><|im_end|>', { special: true })], [650, 701]);
  assert.ok(tokenizer.endTokens.includes(701));
  assert.deepEqual([...tokenizer.startTokens], []);
});

it('is refused where it is truncated, or no tokenizer', () => {
  const folder = folderWith(bytes);
  const typed = (model: Buffer) => {
    fs.writeFileSync(path.join(folder, 'tokenizer.model'), model);
    try {
      createTokenizer(open(folder).metadata);
    } catch (e) {
      if (!(e instanceof LongmindError)) throw e;
      return e.code;
    }
    return 'read';
  };
  assert.equal(typed(Buffer.alloc(0)), 'bad_model_file');
  assert.equal(typed(Buffer.alloc(5000, 0xff)), 'bad_model_file');
  for (let cut = 1; cut < bytes.length; cut += 977) typed(bytes.subarray(0, cut));
  for (let at = 0; at < 400; at++) {
    const changed = Buffer.from(bytes);
    changed[(at * 101) % bytes.length]! ^= 0x5a;
    typed(changed);
  }
});
