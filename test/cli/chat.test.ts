/** The chat as somebody at a terminal has it. Keys are the bytes that a terminal sends. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LineJoiner } from '../../src/cli/chat/lines.js';
import { Pastes } from '../../src/cli/chat/paste.js';
import type { ChatRequest } from '../../src/types.js';
import { longmind, type Person, type RunOptions } from '../support/cli.js';

const folder = mkdtempSync(join(tmpdir(), 'longmind-chat-'));
after(() => rmSync(folder, { recursive: true }));

const ENTER = '\r';
const CTRL_C = '\x03';
const UP = '\x1b[A';
const paste = (text: string) => `\x1b[200~${text}\x1b[201~`;

let homes = 0;
async function chat(person: (p: Person) => Promise<void>, argv: string[] = [], options: RunOptions = {}) {
  const env = { XDG_STATE_HOME: join(folder, `state-${homes++}`) };
  const ran = await longmind(['chat', ...argv], { person, env, ...options });
  const requests = (ran.engines[0]?.calls ?? []).map((c) => c.request as ChatRequest);
  const said = requests.map((r) => r.messages.at(-1)!.content);
  return { ...ran, requests, said, env: options.env ?? env };
}

test('several pasted lines are one message, sent by Enter alone', async () => {
  const { said, stdout } = await chat(async (p) => {
    await p.sees('> ');
    p.type(`Fix this: ${paste('def f():\r\n    return 1\r\n')}`);
    await p.sees('[pasted #1: 2 lines]');
    assert.equal(p.engine().calls.length, 0);
    p.type(` please${ENTER}`);
    await p.sees('You said');
  });
  assert.deepEqual(said, ['Fix this: def f():\n    return 1 please']);
  assert.ok(stdout.includes('\x1b[?2004h') && stdout.includes('\x1b[?2004l'), 'asked for, and taken back at the end');
});

test('a problem of the engine, such as a session store that is away, is told beside what is said', async () => {
  const { stderr } = await chat(async (p) => {
    await p.sees('> ');
    p.engine().problem('the session store does not answer');
    p.type(`hello${ENTER}`);
    await p.sees('You said');
  });
  assert.match(stderr, /the session store does not answer/);
});

test('one pasted line stands in the line as if it was typed', async () => {
  const { said } = await chat(async (p) => {
    await p.sees('> ');
    p.type(paste('hello\n') + ENTER);
    await p.sees('You said');
  });
  assert.deepEqual(said, ['hello']);
});

test('a paste that arrives in any pieces is the same', () => {
  const sent = `a${paste('one\ntwo')}b\x1b[Ac`;
  const whole = new Pastes();
  const expected = whole.feed(sent);
  assert.equal(whole.expand(expected), 'aone\ntwob\x1b[Ac');
  for (let cut = 1; cut < sent.length; cut++) {
    const pieces = new Pastes();
    const got = pieces.feed(sent.slice(0, cut)) + pieces.feed(sent.slice(cut)) + pieces.flush();
    assert.equal(got, expected, `cut at ${cut}`);
    assert.equal(pieces.expand(got), 'aone\ntwob\x1b[Ac');
  }
  const alone = new Pastes();
  assert.equal(alone.feed('\x1b') + alone.flush(), '\x1b', 'the Escape key');
  assert.equal(alone.expand('[pasted #7: 2 lines]'), '[pasted #7: 2 lines]', 'only what was pasted here');
});

test('what is pasted cannot act on the terminal', () => {
  const pastes = new Pastes();
  assert.equal(pastes.feed(paste('a\x1b[31mb\x07\x03c')), 'a[31mbc');
});

test('lines: a backslash goes on, quotes hold, and what is even or inside is text', () => {
  const joined = (lines: string[]) => {
    const joiner = new LineJoiner();
    return lines.map((line) => joiner.push(line));
  };
  assert.deepEqual(joined(['a\\', 'b\\', 'c', 'd']), [null, null, 'a\nb\nc', 'd']);
  assert.deepEqual(joined(['"""', 'a', '', 'b', '"""']), [null, null, null, null, 'a\n\nb']);
  assert.deepEqual(joined(['"""a', 'b"""', 'c']), [null, 'a\nb', 'c']);
  assert.deepEqual(joined(['"""a"""']), ['a']);
  assert.deepEqual(joined(['C:\\\\', 'say """ twice']), ['C:\\\\', 'say """ twice']);
});

test('several lines by hand, at a terminal and from a pipe; a last one that is not whole counts', async () => {
  const lines = '"""\nfirst\n/help\n"""\nand\\\nmore\nlast\\\n';
  const wanted = ['first\n/help', 'and\nmore', 'last'];
  const piped = await longmind(['chat'], { stdin: lines });
  assert.deepEqual(
    piped.engines[0]!.calls.map((c) => (c.request as ChatRequest).messages.at(-1)!.content),
    wanted,
  );
  const { said } = await chat(async (p) => {
    await p.sees('> ');
    p.type(`"""${ENTER}first${ENTER}`);
    await p.sees('… ');
    p.type(`/help${ENTER}"""${ENTER}`);
    await p.sees('You said');
  });
  assert.deepEqual(said, wanted.slice(0, 1));
});

test('Ctrl-C: clears what was typed, then leaves; while an answer comes it stops that', async () => {
  const cleared = await chat(async (p) => {
    await p.sees('> ');
    p.type('a wrong word');
    await p.sees('word');
    p.type(CTRL_C);
    await p.sees('^C\n');
    p.type(`"""${ENTER}also wrong${ENTER}`);
    await p.sees('… ');
    p.type(CTRL_C);
    await p.sees('^C\n');
    p.type(`right${ENTER}`);
    await p.sees('You said');
    await p.sees('> ');
    p.type(CTRL_C);
  });
  assert.deepEqual([cleared.said, cleared.code], [['right'], 130]);
  const stopped = await chat(
    async (p) => {
      await p.sees('> ');
      p.type(`go${ENTER}`);
      await p.sees('xxx');
      p.type(CTRL_C);
      await p.sees('stopped');
      p.type(`/exit${ENTER}`);
    },
    [],
    { fake: { answer: () => 'x'.repeat(500), delayMs: 10 } },
  );
  assert.equal(stopped.code, 0);
});

test('/system changes the conversation from the next turn on, all of it', async () => {
  const { requests } = await chat(async (p) => {
    await p.sees('> ');
    for (const line of ['one', '/system Be brief.', 'two', '/system', 'three']) {
      p.type(line + ENTER);
      await p.sees(line === '/system' ? 'Be brief.' : line.startsWith('/') ? 'next turn' : 'You said');
    }
  });
  assert.deepEqual(
    requests.map((r) => [r.sessionAppend, r.messages.map((m) => m.role).join(' ')]),
    [
      [true, 'user'],
      [false, 'system user assistant user'],
      [true, 'user'],
    ],
  );
  assert.equal(requests[1]!.messages[0]!.content, 'Be brief.');
});

test('/set shows and changes sampling; what is wrong is said, and nothing changes', async () => {
  const { requests, stderr } = await chat(async (p) => {
    await p.sees('> ');
    p.type(`/set temperature 0${ENTER}`);
    await p.sees(/temperature +0\b/);
    p.type(`/set top-k 5${ENTER}/set topP 2${ENTER}/set nothing 1${ENTER}/set${ENTER}`);
    await p.sees(/top-k +5\b/);
    await p.sees(/min-p +0 \(default\)/);
    p.type(`a${ENTER}`);
    await p.sees('You said');
    p.type(`/set temperature default${ENTER}b${ENTER}`);
    await p.sees('You said');
  });
  assert.deepEqual(
    requests.map(({ temperature, topK, topP }) => [temperature, topK, topP]),
    [
      [0, 5, undefined],
      [undefined, 5, undefined],
    ],
  );
  assert.match(stderr, /'top-p' must be a number from 0 to 1[\s\S]*unknown option 'nothing'/);
});

test('/regenerate asks the last question again in the place of its answer', async () => {
  const { requests } = await chat(async (p) => {
    await p.sees('> ');
    p.type(`/regenerate${ENTER}`);
    await p.sees('nothing was asked');
    for (const line of ['one', 'two', '/regenerate', 'three']) {
      p.type(line + ENTER);
      await p.sees('You said');
      await p.sees('> ');
    }
  });
  assert.deepEqual(
    requests.map((r) => [r.sessionAppend, r.messages.filter((m) => m.role === 'user').map((m) => m.content)]),
    [
      [true, ['one']],
      [true, ['two']],
      [false, ['one', 'two']],
      [true, ['three']],
    ],
  );
});

test('/save and /load: the conversation goes on where it was, in another chat too', async () => {
  const file = join(folder, 'saved.json');
  await chat(
    async (p) => {
      await p.sees('> ');
      p.type(`my name is Ann${ENTER}`);
      await p.sees('You said');
      p.type(`/save ${file}${ENTER}`);
      await p.sees('1 turns in');
    },
    ['--system', 'Be kind.'],
  );
  assert.equal(JSON.parse(readFileSync(file, 'utf8')).messages.length, 3);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const { requests, stderr } = await chat(async (p) => {
    await p.sees('> ');
    p.type(`/load ${file}${ENTER}`);
    await p.sees('> my name is Ann');
    p.type(`who am I?${ENTER}`);
    await p.sees('You said');
    p.type(`/load ${folder}/none.json${ENTER}and now?${ENTER}`);
    await p.sees('You said');
  });
  assert.deepEqual(
    requests.map((r) => [r.sessionAppend, r.messages.map((m) => m.content).join('|')]),
    [
      [false, 'Be kind.|my name is Ann|You said: user: my name is Ann|who am I?'],
      [true, 'and now?'],
    ],
  );
  assert.match(stderr, /reading '.*none\.json'/);
});

test('what was typed is there for the next chat, for this user alone; not with --no-history', async () => {
  const env = { XDG_STATE_HOME: join(folder, 'history') };
  const type = (line: string) => async (p: Person) => {
    await p.sees('> ');
    p.type(line + ENTER);
    await p.sees('You said');
  };
  await chat(type('remember me'), [], { env });
  const file = join(env.XDG_STATE_HOME, 'longmind', 'chat-history');
  assert.deepEqual([readFileSync(file, 'utf8'), statSync(file).mode & 0o777], ['remember me\n', 0o600]);
  assert.deepEqual((await chat(type(UP), [], { env })).said, ['remember me']);
  await chat(type('secret'), ['--no-history'], { env });
  assert.equal(readFileSync(file, 'utf8'), 'remember me\n');
  await longmind(['chat'], { stdin: 'piped\n', env });
  assert.equal(readFileSync(file, 'utf8'), 'remember me\n');
});

test('a long wait for the first word shows a sign of life, which goes when the word comes', async () => {
  const { stdout } = await chat(
    async (p) => {
      await p.sees('> ');
      p.type(`go${ENTER}`);
      await p.sees(/(reading: \d+ of \d+ tokens|waiting) …/);
      await p.sees('\r\x1b[K');
      await p.sees('You said');
    },
    [],
    { fake: { firstDelayMs: 900 } },
  );
  const piped = await longmind(['chat'], { stdin: 'go\n', fake: { firstDelayMs: 900 } });
  assert.match(stdout, /reading|waiting/);
  assert.equal(piped.stdout, 'You said: user: go\n');
});

test('the arithmetic of the memory is for who asks: --verbose', async () => {
  const quiet = await longmind(['chat'], { person: async (p) => p.sees('> ') });
  assert.doesNotMatch(quiet.stdout + quiet.stderr, /KV cache|free before/);
  const verbose = await longmind(['chat', '--verbose'], { person: async (p) => p.sees('> ') });
  assert.match(verbose.stderr, /KV cache/);
  const { arithmetic } = JSON.parse((await longmind(['inspect', 'a', '--json'])).stdout).memory;
  assert.ok(verbose.stderr.includes(arithmetic));
  assert.ok(!(await longmind(['inspect', 'a'])).stdout.includes(arithmetic));
  assert.ok((await longmind(['inspect', 'a', '--verbose'])).stdout.includes(arithmetic));
});
