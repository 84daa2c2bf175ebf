import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import { LongmindError } from '../../src/errors.js';
import { BoundedTemplate } from '../../src/tokenizer/bounded-template.js';
import {
  createChatTemplate,
  createTokenizer,
  createTokenizerClient,
  type Tokenizer,
} from '../../src/tokenizer/index.js';
import type { ChatMessage } from '../../src/types.js';
import { readGguf } from '../../src/weights/index.js';
import { smollmPath, withoutSmollm } from '../support/model.js';
import { asMetadata, smallBpe, smallSentencePiece } from './small-vocabulary.js';

const path = await smollmPath();
const bpe = smallBpe();
const CHATML = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`;
/** Trims, splits and looks into contents, as newer models' templates do. */
const MEDDLING = `{% for m in messages %}{% set c = m.content | trim %}{% if m.role == 'assistant' and '</think>' in c %}{% set c = c.split('</think>')[-1] | trim %}{% endif %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ c ~ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}`;

function setUp(template: string | null): { tokenizer: Tokenizer; apply: ReturnType<typeof createChatTemplate> } {
  const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
  if (template !== null) metadata.set('tokenizer.chat_template', template);
  const tokenizer = createTokenizer(metadata);
  return { tokenizer, apply: createChatTemplate(metadata, tokenizer) };
}

const user = (content: string): ChatMessage => ({ role: 'user', content });
const code = (wanted: string, message?: RegExp) => (e: unknown) =>
  e instanceof LongmindError && e.code === wanted && (!message || message.test(e.message));

test('a conversation without special spellings becomes the ids of its whole text', () => {
  const { tokenizer, apply } = setUp(CHATML);
  const { text, ids } = apply.apply([user('Hello <b> there >'), { role: 'assistant', content: 'Hi' }, user('More')]);
  assert.equal(
    text,
    '<|im_start|>user\nHello <b> there ><|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n',
  );
  assert.deepEqual(ids, tokenizer.encode(text, { special: true }));
});

test('contents never add, complete or remove special tokens, whatever they spell and the template does with them', () => {
  for (const template of [CHATML, MEDDLING]) {
    const { tokenizer, apply } = setUp(template);
    const controls = tokenizer.controlTexts();
    const pieces = controls.flatMap((c) => [c, c.slice(0, 3), c.slice(3), c.slice(2, -2)]);
    const content = fc
      .array(fc.oneof(fc.constantFrom(...pieces, ' ', '\n', '</think>', '\u{f0000}'), fc.string({ maxLength: 4 })), {
        maxLength: 7,
      })
      .map((parts) => parts.join(''));
    const specials = (ids: Int32Array): string[] =>
      [...ids].filter((id) => tokenizer.tokenBytes.special[id]).map((id) => tokenizer.tokenText(id));
    fc.assert(
      fc.property(fc.array(content, { minLength: 1, maxLength: 4 }), (contents) => {
        const messages = contents.map((c, i): ChatMessage => ({ role: i % 2 ? 'assistant' : 'user', content: c }));
        const want = [...contents.flatMap(() => ['<|im_start|>', '<|im_end|>']), '<|im_start|>'];
        const { ids, text } = apply.apply(messages);
        assert.deepEqual(specials(ids), want);
        assert.equal(tokenizer.decode(ids, { special: true }), text.replace(/\p{Surrogate}/gu, '\ufffd'));
        if (template === CHATML) for (const c of contents) assert.ok(text.includes(c));
        const next = apply.continue([user(contents[0]!)]);
        assert.deepEqual(specials(next.ids), ['<|im_end|>', '<|im_start|>', '<|im_end|>', '<|im_start|>']);
      }),
      { numRuns: 300 },
    );
  }
});

test('fields beside the content are guarded as well, and keep their names', () => {
  const template = `{% for m in messages %}{{ m.name }}|{{ m.calls | tojson }}{% endfor %}`;
  const { tokenizer, apply } = setUp(template);
  const { ids, text } = apply.apply([
    { ...user('x'), name: '<|im_end|>', calls: [{ name: '<s>', '<|im_start|>': 1 }] },
  ]);
  assert.match(text, /^<\|im_end\|>\|/);
  assert.match(text, /"name": "<s>"/);
  assert.ok([...ids].every((id) => !tokenizer.tokenBytes.special[id]));
});

test('what follows an answer begins with its end of turn', () => {
  const { apply } = setUp(CHATML);
  assert.equal(
    apply.continue([user('next')]).text,
    '<|im_end|>\n<|im_start|>user\nnext<|im_end|>\n<|im_start|>assistant\n',
  );
  const whole = apply.apply([user('a'), { role: 'assistant', content: 'b' }, user('next')]).text;
  assert.ok(whole.endsWith(apply.continue([user('next')]).text));
  assert.throws(
    () => setUp('{{ messages[0].content }}').apply.continue([user('x')]),
    code('bad_chat_template', /leaves the assistant/),
  );
});

test('roles, empty conversations and contents that are no text are refused', () => {
  const { apply } = setUp(CHATML);
  assert.throws(() => apply.apply([]), code('invalid_request'));
  assert.throws(
    () => apply.apply([{ role: 'user<|im_end|>' as 'user', content: '' }]),
    code('invalid_request', /role must be one of/),
  );
  assert.throws(
    () => apply.apply([{ role: 'user', content: 5 as unknown as string }]),
    code('invalid_request', /must be a string/),
  );
});

test('a file without a template gets one by its special tokens, and says so', () => {
  const own = setUp(CHATML).apply;
  assert.equal(own.instead, null);
  const { apply } = setUp(null);
  assert.equal(apply.instead, 'ChatML');
  assert.equal(apply.apply([user('a')]).text, own.apply([user('a')]).text);
  const metadata = asMetadata(smallSentencePiece());
  const llama2 = createChatTemplate(metadata, createTokenizer(metadata));
  assert.equal(llama2.instead, 'Llama 2');
  const messages: ChatMessage[] = [
    { role: 'system', content: 'S' },
    user('a'),
    { role: 'assistant', content: 'b' },
    user('c'),
  ];
  assert.equal(llama2.apply(messages).text, '<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]');
  assert.equal(llama2.apply(messages).ids[0], 1);
  const turns = ['<start_of_turn>', '<end_of_turn>'];
  const list = (name: string) => metadata.get(`tokenizer.ggml.${name}`) as ArrayLike<number>;
  metadata.set('tokenizer.ggml.tokens', [...(metadata.get('tokenizer.ggml.tokens') as string[]), ...turns]);
  metadata.set('tokenizer.ggml.scores', Float32Array.of(...Array.from(list('scores')), 0, 0));
  metadata.set('tokenizer.ggml.token_type', [...Array.from(list('token_type')), 3, 3]);
  const gemma = createChatTemplate(metadata, createTokenizer(metadata));
  assert.equal(gemma.instead, 'Gemma');
  assert.equal(
    gemma.apply(messages).text,
    '<s><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n',
  );
  // in the middle of a text SentencePiece puts no space in front
  const tokenizer = createTokenizer(metadata);
  const rest = llama2.continue([user('c')]);
  assert.equal(rest.text, ' </s><s>[INST] c [/INST]');
  assert.equal(tokenizer.decode(rest.ids.subarray(0, rest.ids.indexOf(2))), ' ');
});

test('a broken template is a typed error when it is used, not when it is loaded', () => {
  for (const template of ['{% if %}', '{{ raise_exception("no") }}', '{% for x in 5 %}{% endfor %}'])
    assert.throws(() => setUp(template).apply.apply([user('a')]), code('bad_chat_template'), template);
});

test('the worker gives the same as the tokenizer itself, in the order of asking', async () => {
  const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
  const local = createTokenizer(metadata);
  const client = await createTokenizerClient(metadata);
  try {
    const texts = ['a', 'x'.repeat(100_000), '', 'Hello <|im_end|>', '\u{1f600}'];
    const order: number[] = [];
    const got = await Promise.all(
      texts.map(async (text, i) => {
        const ids = await client.encode(text, { special: true });
        order.push(i);
        return ids;
      }),
    );
    assert.deepEqual(order, [0, 1, 2, 3, 4]);
    assert.deepEqual(
      got,
      texts.map((text) => local.encode(text, { special: true })),
    );
    assert.deepEqual(client.tokenBytes, local.tokenBytes);
    assert.deepEqual(client.endTokens, local.endTokens);
    assert.equal(client.decode(got[3]!, { special: true }), 'Hello <|im_end|>');
    await assert.rejects(client.applyTemplate([{ role: 'x' as 'user', content: '' }]), code('invalid_request'));
    assert.deepEqual(await client.encodeChat([user('a')]), setUp(null).apply.apply([user('a')]).ids);
  } finally {
    await client.close();
  }
  await assert.rejects(client.encode('a', { special: false }), code('engine_closed'));
});

test('a long text keeps the thread that asks free', async () => {
  const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
  const client = await createTokenizerClient(metadata);
  try {
    let turns = 0;
    let done = false;
    const tick = (): void => {
      turns++;
      if (!done) setImmediate(tick);
    };
    setImmediate(tick);
    const ids = await client.encode('ab'.repeat(100_000), { special: false });
    done = true;
    assert.ok(ids.length > 1000);
    assert.ok(turns > 100, `${turns} turns of the event loop`);
  } finally {
    await client.close();
  }
});

test('a template that never ends, or fills the memory, is stopped; other jobs go on', async () => {
  const spin = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}';
  const fill =
    '{% set n = namespace(l=[]) %}{% for i in range(100000000) %}{% set n.l = n.l + [i ~ "x"] %}{% endfor %}';
  for (const template of [spin, fill]) {
    const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
    metadata.set('tokenizer.chat_template', template);
    const client = await createTokenizerClient(metadata, { templateTimeout: 700 });
    try {
      const bad = client.applyTemplate([user('a')]);
      const good = client.encode('after', { special: false });
      await assert.rejects(bad, code('bad_chat_template'));
      assert.ok((await good).length > 0);
    } finally {
      await client.close();
    }
  }
});

test('what a template builds is bounded inside the engine that runs it', () => {
  const beyond = [
    '{% for i in range(1000000000) %}{% endfor %}',
    '{{ range(2000000000) | list | length }}',
    '{{ range(30000000) | length }}',
    '{{ range(0, -1000000000, -1) | length }}',
    '{{ range(10 ** 300) | length }}',
    "{{ range('x') | length }}",
    '{{ range(0, 9, 0) | length }}',
    '{% set n = namespace(s="x") %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}',
    '{% set n = namespace(l=[1]) %}{% for i in range(40) %}{% set n.l = n.l + n.l %}{% endfor %}',
    '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
    "{{ strftime_now('%B' * 100) }}",
  ];
  for (const template of beyond)
    assert.throws(() => setUp(template).apply.apply([user('a')]), code('bad_chat_template'), template);

  const bounds = { steps: 5000, items: 100, chars: 1000, work: 20_000 };
  for (const [template, wanted] of [
    ['{% for i in range(90) %}{% for j in range(90) %}{% endfor %}{% endfor %}', /goes on and on/],
    ['{% for i in range(90) %}{% for j in list if j %}{% endfor %}{% endfor %}', /goes on and on/],
    ['{% for i in range(90) %}{% set x = range(90) | length %}{% endfor %}', /goes on and on/],
    ['{% for i in range(90) %}{% set x = text ~ i %}{% endfor %}', /makes text on and on/],
    ['{{ text ~ text }}', /a text of 1800 characters/],
    ['{{ (list + list) | length }}', /a list of 180 items/],
  ] as const) {
    const variables = { text: 'x'.repeat(900), list: Array(90).fill(1) };
    assert.throws(() => new BoundedTemplate(template, bounds).render(variables), code('bad_chat_template', wanted));
    new BoundedTemplate(template).render(variables);
  }
});

test('the bounds let through what templates do', () => {
  const template =
    "{{ range(1, 10, 3) | join(',') }} {{ range(3) | length }} {{ strftime_now('%Y') }}{{ True and none is none }}";
  assert.equal(setUp(template).apply.apply([user('a')]).text, `1,4,7 3 ${new Date().getFullYear()}true`);
  const many = Array.from(
    { length: 65_536 },
    (_, i): ChatMessage => ({ role: i % 2 ? 'assistant' : 'user', content: 'm' }),
  );
  assert.ok(setUp(CHATML).apply.apply(many).ids.length > 65_536);
});

test('the process that runs templates dies: the job it had is refused, the others go on, and so does its parent', async () => {
  const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
  const client = await createTokenizerClient(metadata);
  try {
    const first = client.pid!;
    for (const [kind, wanted] of [
      ['chat', 'bad_chat_template'],
      ['encode', 'engine_failed'],
    ] as const) {
      const { pid } = client;
      const job =
        kind === 'chat'
          ? client.applyTemplate([user('x'.repeat(1e6))])
          : client.encode('x'.repeat(1e6), { special: false });
      const after = client.encode('after', { special: false });
      process.kill(pid!, 'SIGKILL');
      await assert.rejects(job, code(wanted, /SIGKILL/));
      assert.ok((await after).length > 0);
    }
    assert.notEqual(client.pid, first);
  } finally {
    await client.close();
  }
});

test('its process ends with its parent, however that ends, and not by a signal to the whole group', async () => {
  const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
  const client = await createTokenizerClient(metadata);
  const pid = client.pid!;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.kill(pid, signal);
  assert.ok((await client.encode('still here', { special: false })).length > 0);
  assert.equal(client.pid, pid);
  await client.close();
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });

  const script = `
    import { createTokenizerClient } from ${JSON.stringify(new URL('../../src/tokenizer/index.js', import.meta.url).href)};
    import { asMetadata, smallBpe } from ${JSON.stringify(new URL('./small-vocabulary.js', import.meta.url).href)};
    const client = await createTokenizerClient(asMetadata({ ...smallBpe(), 'tokenizer.ggml.pre': { string: 'smollm' } }));
    console.log(client.pid);
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const orphan = Number(String((await once(parent.stdout, 'data'))[0]));
  parent.kill('SIGKILL');
  const gone = () => {
    try {
      process.kill(orphan, 0);
      return false;
    } catch {
      return true;
    }
  };
  for (let i = 0; i < 200 && !gone(); i++) await new Promise((resolve) => setTimeout(resolve, 25));
  assert.ok(gone(), `process ${orphan} outlives its parent`);
});

test('an idle tokenizer does not keep its process alive', async () => {
  const script = `
    import { createTokenizerClient } from ${JSON.stringify(new URL('../../src/tokenizer/index.js', import.meta.url).href)};
    import { asMetadata, smallBpe } from ${JSON.stringify(new URL('./small-vocabulary.js', import.meta.url).href)};
    const client = await createTokenizerClient(asMetadata({ ...smallBpe(), 'tokenizer.ggml.pre': { string: 'smollm' } }));
    const ids = await client.encode('a text', { special: false });
    console.log(ids.length > 0);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (d) => {
    out += d;
  });
  const [status] = (await once(child, 'close')) as [number];
  assert.deepEqual([status, out], [0, 'true\n']);
});

test('messages that cannot be sent to it are refused, and nothing is lost', async () => {
  const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
  const client = await createTokenizerClient(metadata);
  try {
    const odd = { ...user('a'), tool: () => {} } as unknown as ChatMessage;
    await assert.rejects(client.encodeChat([odd]), code('invalid_request', /cannot be sent/));
    assert.ok((await client.encode('after', { special: false })).length > 0);
  } finally {
    await client.close();
  }
});

test('jobs that wait are bounded', async () => {
  const metadata = asMetadata({ ...bpe, 'tokenizer.ggml.pre': { string: 'smollm' } });
  const client = await createTokenizerClient(metadata, { maxPending: 2, maxPendingChars: 100 });
  try {
    const jobs = ['a', 'b', 'c', 'd'].map((t) => client.encode(t, { special: false }));
    const results = await Promise.allSettled(jobs);
    assert.deepEqual(
      results.map((r) => r.status),
      ['fulfilled', 'fulfilled', 'fulfilled', 'rejected'],
    );
    const long = Promise.allSettled(['x'.repeat(90), 'y'.repeat(90)].map((t) => client.encode(t, { special: false })));
    assert.deepEqual(
      (await long).map((r) => r.status),
      ['fulfilled', 'rejected'],
    );
  } finally {
    await client.close();
  }
});

test('metadata that makes no tokenizer is a typed error from the worker as well', async () => {
  await assert.rejects(createTokenizerClient(new Map()), code('bad_tokenizer'));
});

test('a tokenizer that cannot start keeps no process alive', async () => {
  const script = `
    import { createTokenizerClient } from ${JSON.stringify(new URL('../../src/tokenizer/index.js', import.meta.url).href)};
    await createTokenizerClient(new Map()).catch((e) => console.log(e.code));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 20_000,
  });
  let out = '';
  child.stdout.on('data', (d) => {
    out += d;
  });
  const [status] = (await once(child, 'close')) as [number];
  assert.deepEqual([status, out], [0, 'bad_tokenizer\n']);
});

test("SmolLM2's own template, contents kept apart from it", { skip: withoutSmollm(path) }, async () => {
  const client = await createTokenizerClient(readGguf(path!).metadata);
  try {
    const { ids, text } = await client.applyTemplate([user('Hi <|im_end|> there')]);
    assert.equal(client.decode(ids, { special: true }), text);
    assert.equal(ids.filter((id) => id === 2).length, 2); // the system's and the user's end of turn
    assert.match(
      text,
      /^<\|im_start\|>system\n.*<\|im_end\|>\n<\|im_start\|>user\nHi <\|im_end\|> there<\|im_end\|>\n<\|im_start\|>assistant\n$/s,
    );
  } finally {
    await client.close();
  }
});
