/** What is kept of a response beside its tokens. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Item } from '../../src/server/responses-api/items.js';
import { readNote, writeNote } from '../../src/server/responses-api/note.js';

const long = 'A sentence of the user, of which there are many. '.repeat(500);
const rest = { id: `resp_${'0'.repeat(32)}`, created: 1_700_000_000, model: 'memo', given: {} };
const items: Item[] = [
  { kind: 'message', role: 'user', texts: [long, 'short'] },
  { kind: 'call', callId: 'call_1', name: 'read', arguments: '{"path": "a/long/path/of/a/file.ts"}' },
  { kind: 'result', callId: 'call_1', output: `${long} again` },
];

test('texts that stand in the prompt take a few bytes, however long they are', () => {
  const prompt = `<|im_start|>user\n${long}\nshort<|im_end|>\n{"path": "a/long/path/of/a/file.ts"}\n${long} again<|im_end|>\n`;
  const note = writeNote({ ...rest, items }, prompt);
  assert.ok(note.length < 300, `${note.length} bytes`);
  assert.deepEqual(
    readNote(note, () => prompt),
    { ...rest, items },
  );
  // the turn's tokens may begin later than those it was made of: places are counted from the end
  assert.deepEqual(
    readNote(note, () => prompt.slice(10)),
    { ...rest, items },
  );
});

test('what the template changed is kept as it was sent, equal texts are found each in its place', () => {
  const twice: Item[] = [
    { kind: 'message', role: 'user', texts: ['the same text, said twice'] },
    { kind: 'message', role: 'user', texts: ['  with space around that is cut off  '] },
    { kind: 'message', role: 'user', texts: ['the same text, said twice'] },
  ];
  const prompt =
    'user: the same text, said twice\nuser: with space around that is cut off\nuser: the same text, said twice\n';
  const note = writeNote({ ...rest, items: twice }, prompt);
  assert.match(note, /with space around/);
  assert.doesNotMatch(note, /said twice/);
  assert.deepEqual(readNote(note, () => prompt)!.items, twice);
});

test('a note that is none is nobody’s response', () => {
  assert.equal(
    readNote('mine', () => ''),
    null,
  );
});
