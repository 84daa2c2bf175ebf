/** The Markdown of models: what it means, that it stays text, and that no input takes long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Block, type Inline, inlinesOf, parseMarkdown } from '../../src/dashboard/chat/markdown.js';
import { type Conversation, mergeConversations, revive, tokensBefore } from '../../src/dashboard/chat/model.js';
import { SseParser } from '../../src/dashboard/ui/sse.js';

const text = (t: string): Inline => ({ type: 'text', text: t });

test('the blocks that models write', () => {
  const blocks = parseMarkdown(
    ['# Title', 'some', 'text', '', '- a', '- b', '  - inner', '', '2. two', '3. three', '', '> said', '', '---'].join(
      '\n',
    ),
  );
  assert.deepEqual(
    blocks.map((b) => b.type),
    ['heading', 'paragraph', 'list', 'list', 'quote', 'rule'],
  );
  const [, , list, numbers] = blocks as Extract<Block, { type: 'list' }>[];
  assert.equal(list!.items.length, 2);
  assert.equal(list!.items[1]![1]!.type, 'list');
  assert.deepEqual([numbers!.ordered, numbers!.start, numbers!.items.length], [true, 2, 2]);
});

test('a fence keeps its text as it is, also while it is still open', () => {
  assert.deepEqual(parseMarkdown('```js\nif (a < b) **c**\n'), [
    { type: 'code', language: 'js', text: 'if (a < b) **c**\n' },
  ]);
  assert.deepEqual(parseMarkdown('~~~\n```\n~~~\nafter'), [
    { type: 'code', language: '', text: '```' },
    { type: 'paragraph', children: [text('after')] },
  ]);
});

test('tables', () => {
  const [table] = parseMarkdown('| a | b |\n|---|:-:|\n| 1 | **2** |\n| 3 |') as Extract<Block, { type: 'table' }>[];
  assert.equal(table!.head.length, 2);
  assert.deepEqual(table!.rows[0]![1], [{ type: 'strong', children: [text('2')] }]);
  assert.deepEqual(table!.rows[1]![1], []);
});

test('emphasis, code and links inside a line', () => {
  assert.deepEqual(inlinesOf('a **b *c* d** `e*f*` ~~g~~ snake_case_name 2 * 3 * 4'), [
    text('a '),
    { type: 'strong', children: [text('b '), { type: 'em', children: [text('c')] }, text(' d')] },
    text(' '),
    { type: 'code', text: 'e*f*' },
    text(' '),
    { type: 'del', children: [text('g')] },
    text(' snake_case_name 2 * 3 * 4'),
  ]);
  assert.deepEqual(inlinesOf('see https://a.example/x.'), [
    text('see '),
    { type: 'link', href: 'https://a.example/x', children: [text('https://a.example/x')] },
    text('.'),
  ]);
  assert.deepEqual(inlinesOf('\\*not\\*'), [text('*not*')]);
});

test('only web and mail addresses become links', () => {
  for (const bad of [
    'javascript:alert(1)',
    'JaVaScRiPt:x',
    'data:text/html,x',
    'vbscript:x',
    '//evil',
    'file:///etc',
  ]) {
    const nodes = JSON.stringify(parseMarkdown(`[click](${bad})`));
    assert.ok(!nodes.includes('"link"'), bad);
  }
});

const kinds = new Set([
  'paragraph',
  'heading',
  'code',
  'quote',
  'list',
  'table',
  'rule',
  'text',
  'strong',
  'em',
  'del',
  'link',
  'break',
]);

test('any text parses into known nodes, links to the web alone, and no text is invented', () => {
  const piece = fc.constantFrom(
    '*',
    '**',
    '_',
    '`',
    '```',
    '\n',
    '> ',
    '- ',
    '1. ',
    '# ',
    '|',
    '---',
    '[',
    '](',
    ')',
    '<b>',
    'word',
    ' ',
    'http://x',
    '~~',
    '\\',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      const source = pieces.join('');
      const plain = source.replaceAll('\\', '');
      const seen = JSON.stringify(parseMarkdown(source), (key, value: unknown) => {
        if (key === 'type') assert.ok(kinds.has(value as string));
        if (key === 'href') assert.match(value as string, /^(https?:\/\/|mailto:)/);
        if (key === 'text' && typeof value === 'string')
          for (const word of value.split(/\s+/)) assert.ok(plain.includes(word.replaceAll('\\', '')));
        return value;
      });
      assert.ok(seen.startsWith('['));
    }),
    { numRuns: 2000 },
  );
});

test('hostile texts of 20,000 characters take less than half a second', () => {
  for (const unit of [
    '*',
    '**a ',
    '`',
    '`a``',
    '[',
    '[a](',
    '> ',
    '- ',
    '_a',
    '~~',
    '|',
    '\\',
    '**a*',
    '1. ',
    '  - ',
    '#',
  ]) {
    const source = unit.repeat(20_000 / unit.length);
    const begun = performance.now();
    parseMarkdown(source);
    const took = performance.now() - begun;
    assert.ok(took < 500, `${JSON.stringify(unit)} took ${took.toFixed(0)} ms`);
  }
});

test('event streams parse whatever the pieces they come in', () => {
  const stream = 'event: engine\ndata: {"a":1}\n\n: ping\n\ndata: x\ndata: y\n\n';
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 6 }), (cuts) => {
      const parser = new SseParser();
      const at = [0, ...cuts.sort((a, b) => a - b), stream.length];
      const events = at.slice(1).flatMap((end, i) => parser.push(stream.slice(at[i], end)));
      assert.deepEqual(events, [
        { event: 'engine', data: '{"a":1}' },
        { event: 'message', data: 'x\ny' },
      ]);
    }),
  );
});

test('what storage holds is checked: garbage is left out, an answer that was running is cut', () => {
  const answer = { text: 'half', session: 's', state: 'running' };
  const good = {
    id: 'c',
    title: 't',
    updated: 1,
    branches: 1,
    turns: [{ id: 't', user: 'u', answers: [answer], chosen: 0 }],
  };
  const [c, ...more] = revive([good, null, 7, { id: 1 }, { ...good, turns: [{ user: 3 }] }]);
  assert.equal(more.length, 0);
  assert.equal(c!.turns[0]!.answers[0]!.state, 'cut');
  assert.equal(tokensBefore(c!, 0), 0);
  assert.equal(tokensBefore(c!, 1), null);
  assert.deepEqual(revive('x'), []);
});

test('two tabs: the newer of each conversation; what one deleted stays deleted unless the other uses it', () => {
  const c = (id: string, updated: number, title = id): Conversation => ({ id, title, updated, turns: [], branches: 1 });
  const mine = [
    c('both', 1),
    c('deleted there', 2),
    c('open here', 2),
    c('new here', 20),
    c('running here', 1, 'mine'),
  ];
  const theirs = [c('new there', 9), c('both', 5, 'newer'), c('running here', 8, 'theirs')];
  const used = (id: string) =>
    id === 'running here' ? 'running' : id === 'open here' || id === 'both' ? 'open' : null;
  assert.deepEqual(
    mergeConversations(mine, theirs, 10, used).map((x) => x.title),
    ['new there', 'newer', 'open here', 'new here', 'mine'],
  );
});
