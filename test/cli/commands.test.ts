import assert from 'node:assert/strict';
import { test } from 'node:test';
import { engineOptions, flagName, serverOptions } from '../../src/config.js';
import { createServer } from '../../src/server/index.js';
import { longmind } from '../support/cli.js';
import { FakeEngine } from '../support/fake-engine.js';

const benchNames = ['trace', 'cache', 'sessions', 'recall', 'perplexity'];

test('every command has help with examples, and its options come from the tables', async () => {
  for (const name of ['chat', 'serve', 'generate', 'pull', 'list', 'rm', 'inspect', 'quantize', 'convert']) {
    const { code, stdout } = await longmind([name, '--help']);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: longmind /);
    assert.match(stdout, new RegExp(`Examples:\\n  \\$ longmind ${name}`), name);
  }
  const { stdout } = await longmind(['serve', '--help']);
  for (const [option, spec] of Object.entries({ ...serverOptions, ...engineOptions })) {
    const flag = (spec.default as unknown) === true ? flagName(option).replace('--', '--no-') : flagName(option);
    assert.ok(stdout.includes(flag), flag);
  }
});

test('every example of every help is a command line that is taken', async () => {
  const seen = new Set<string>();
  const others = ['chat', 'generate', 'pull', 'list', 'rm', 'inspect', 'quantize', 'convert'];
  for (const name of [...others, ...benchNames.map((b) => `bench ${b}`)]) {
    const { stdout } = await longmind([...name.split(' '), '--help']);
    const examples = stdout.slice(stdout.indexOf('Examples:')).match(/^ {2}\$ .*$/gm)!;
    for (const example of examples) {
      const line = /^ {2}\$ (?:(?!longmind).* \| )?longmind ([^|<]*?)( < \S+)?$/.exec(example);
      assert.ok(line, example);
      seen.add(line[1]!.split(' ', 1)[0]!);
      const words = line[1]!.match(/'[^']*'|\S+/g)!.map((word) => word.replace(/^'|'$/g, ''));
      const { code, stderr } = await longmind(words, { stdin: 'hello\n' });
      assert.equal(code, 0, `${example}\n${stderr}`);
    }
  }
  assert.deepEqual([...seen].sort(), ['bench', ...others].sort());
});

test('--version is that of the package; no command at all shows the help as an error', async () => {
  assert.match((await longmind(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
  const nothing = await longmind([]);
  assert.equal(nothing.code, 2);
  assert.match(nothing.stderr, /Commands:/);
});

test('options reach the engine typed; those not given are left to its defaults', async () => {
  const { asked, code } = await longmind(
    'generate -p x -m my.gguf --cache-max-entry-count 2GiB --no-enable-prefix-caching --threads 2 --offline'.split(' '),
  );
  assert.equal(code, 0);
  assert.deepEqual(asked, [
    {
      model: 'my.gguf',
      cacheMaxEntryCount: { kind: 'bytes', bytes: 2 ** 31 },
      enablePrefixCaching: false,
      threads: 2,
      offline: true,
    },
  ]);
});

const wrong: [string, string[], RegExp][] = [
  [
    'an unknown option, with a hint',
    ['generate', '--promt', 'x'],
    /unknown option '--promt' \(Did you mean --prompt\?\)/,
  ],
  ['an unknown command, with a hint', ['generat'], /unknown command 'generat' \(Did you mean generate\?\)/],
  ['a value out of range', ['generate', '-p', 'x', '--temperature', '-1'], /must be a number from 0 to 100/],
  ['a value that is no choice', ['serve', '--log-level', 'loud'], /must be one of silent, error, warn/],
  [
    'a policy that is gone',
    ['serve', '--cache-policy', 'adaptive'],
    /must be lru \('adaptive' was removed: .*cache\.md/,
  ],
  ['a missing prompt', ['generate'], /the prompt is missing.*'--prompt <TEXT>'/],
  ['a prompt given twice', ['generate', 'x', '-p', 'y'], /the prompt is given twice/],
  [
    'the end of an option, with a hint',
    ['serve', '--port', '8080'],
    /unknown option '--port' \(Did you mean --server-port\?\)/,
  ],
  ['a missing argument', ['rm'], /missing required argument 'REF'/],
  ['too many arguments', ['pull', 'a', 'b'], /too many arguments/],
  ['--system without --chat', ['generate', '-p', 'x', '--system', 'y'], /given together with --chat/],
  ['a remote address without keys', ['serve', '--server-name', '0.0.0.0'], /without API keys/],
];

for (const [what, argv, message] of wrong) {
  test(`exit status 2 and one line: ${what}`, async () => {
    const { code, stdout, stderr } = await longmind(argv);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    const lines = stderr
      .trimEnd()
      .split('\n')
      .filter((l) => !l.startsWith('loading'));
    assert.equal(lines.length, 1, stderr);
    assert.match(lines[0]!, message);
  });
}

test('with --json, errors are one JSON object on stdout', async () => {
  const usage = await longmind(['generate', '--promt', 'x', '--json']);
  assert.deepEqual([usage.code, JSON.parse(usage.stdout).error.code, usage.stderr], [2, 'usage', '']);
  const missing = await longmind(['generate', '-p', 'x', '-m', 'missing.gguf', '--json']);
  assert.deepEqual([missing.code, JSON.parse(missing.stdout).error.code, missing.stderr], [1, 'file_missing', '']);
});

test('an error of the library is one line and exit status 1', async () => {
  const { code, stderr } = await longmind(['generate', '-p', 'x', '-m', 'missing.gguf']);
  assert.deepEqual([code, stderr], [1, "longmind: there is no file 'missing.gguf'\n"]);
});

test('a bug is told as one, with its stack', async () => {
  const { code, stderr } = await longmind(['generate', '-p', 'x'], {
    fake: { failAt: 0, failWith: new Error('oops') },
  });
  assert.equal(code, 1);
  assert.match(stderr, /a bug: Error: oops\n\s+at /);
});

test('generate --json prints one object with text, ids, reason, usage and timings', async () => {
  const { code, stdout, stderr, engines } = await longmind(
    ['generate', '--prompt', 'hi', '--max-tokens', '3', '--temperature', '0', '--json', '--logprobs', '1'],
    { fake: { answer: () => 'abcdef' } },
  );
  assert.deepEqual([code, stderr], [0, '']);
  const { timings, logprobs, ...rest } = JSON.parse(stdout);
  assert.deepEqual(rest, {
    model: 'fake',
    text: 'abc',
    tokenIds: [97, 98, 99],
    finishReason: 'length',
    reasoning: null,
    stopString: null,
    usage: { promptTokens: 2, cachedTokens: 0, completionTokens: 3, reasoningTokens: 0, acceptedDraftTokens: 0 },
  });
  assert.deepEqual(Object.keys(timings), ['loadMs', 'ttftMs', 'perTokenMs', 'totalMs']);
  assert.equal(logprobs.length, 3);
  assert.ok(engines[0]!.closed);
});

test('generate streams text to stdout and keeps everything else on stderr', async () => {
  const { stdout, stderr } = await longmind(['generate', '-p', 'hi'], { fake: { answer: () => 'abc' } });
  assert.equal(stdout, 'abc\n');
  assert.match(stderr, /^loading \(2 B\) …\n\[2 \+ 3 tokens, .*ended by stop\]\n$/);
});

test('generate takes the prompt as its argument, too', async () => {
  const { stdout } = await longmind(['generate', 'hi', '--max-tokens', '9'], { fake: { answer: (p) => `<${p}>` } });
  assert.equal(stdout, '<hi>\n');
});

test('generate reads the prompt from stdin, and --chat makes it a message', async () => {
  const plain = await longmind(['generate', '-p', '-'], { stdin: 'one\ntwo\n', fake: { answer: (p) => `<${p}>` } });
  assert.equal(plain.stdout, '<one\ntwo>\n');
  const chat = await longmind(['generate', '--chat', '-p', 'hi', '--system', 'be brief'], {
    fake: { answer: (p) => p },
  });
  assert.equal(chat.stdout, 'system: be brief\nuser: hi\n\n');
});

test('generate takes the prompt from a pipe without being told, and waits for no terminal', async () => {
  const piped = await longmind(['generate'], { stdin: 'one\ntwo\n', fake: { answer: (p) => `<${p}>` } });
  assert.equal(piped.stdout, '<one\ntwo>\n');
  const terminal = await longmind(['generate'], { tty: true });
  assert.deepEqual([terminal.code, terminal.stdout], [2, '']);
  assert.match(terminal.stderr, /the prompt is missing/);
});

test('repeated --stop and lists of token ids are collected', async () => {
  const { engines } = await longmind('generate -p x --stop a --stop b,c --stop-tokens 4,5'.split(' '));
  const { stop, stopTokens } = engines[0]!.calls[0]!.request;
  assert.deepEqual(
    [stop, stopTokens],
    [
      ['a', 'b,c'],
      [4, 5],
    ],
  );
});

test('chat from a pipe: each line is a turn of one session, the system message goes first', async () => {
  const { code, stdout, engines } = await longmind(['chat', '--system', 'be kind', '--session', 's'], {
    stdin: 'hello\n\nand again\n/session\n/nonsense\n',
    fake: { answer: () => 'ok' },
  });
  assert.equal(code, 0);
  assert.deepEqual(
    engines[0]!.calls.map((c) => c.request),
    [
      {
        messages: [
          { role: 'system', content: 'be kind' },
          { role: 'user', content: 'hello' },
        ],
        sessionId: 's',
        sessionAppend: true,
      },
      { messages: [{ role: 'user', content: 'and again' }], sessionId: 's', sessionAppend: true },
    ],
  );
  assert.match(stdout, /^ok\nok\nsession s: \d+ tokens, \d+ of them cached \(cached\)\nthere is no command \/nonsense/);
  assert.ok(engines[0]!.closed);
});

test('chat: /reset forgets the conversation and begins another', async () => {
  const { engines } = await longmind(['chat', '--session', 's'], {
    stdin: 'a\n/reset\nb\n',
    fake: { answer: () => 'ok' },
  });
  const [first, second] = engines[0]!.calls.map((c) => c.request.sessionId);
  assert.equal(first, 's');
  assert.notEqual(second, 's');
  assert.ok(!engines[0]!.kept.has('0/s'));
});

test('chat goes on after a turn that failed, and a piped one tells by its exit status', async () => {
  const { code, stderr, stdout } = await longmind(['chat'], {
    stdin: `${'x'.repeat(200)}\nshort\n`,
    fake: { sessionLen: 100, answer: () => 'ok' },
  });
  assert.equal(code, 1);
  assert.match(stderr, /longmind: the prompt has \d+ tokens/);
  assert.match(stdout, /ok\n$/);
});

test('pull, list, rm and inspect print text, or JSON when asked', async () => {
  assert.equal((await longmind(['pull', 'a'])).stdout, '/models/a.gguf  1.5 KiB\n');
  assert.deepEqual(JSON.parse((await longmind(['pull', '--json'])).stdout).ref, 'small');
  assert.equal(
    (await longmind(['list'])).stdout,
    'a       1.5 KiB  /models/a.gguf\nlonger  1.5 KiB  /models/longer.gguf\n',
  );
  assert.equal(JSON.parse((await longmind(['ls', '--json'])).stdout).length, 2);
  assert.match((await longmind(['rm', 'a'])).stdout, /^removed \/models\/a\.gguf/);
  const inspected = await longmind(['inspect', 'a', '--json', '--cache-max-entry-count', '12']);
  assert.equal(JSON.parse(inspected.stdout).memory.bytesPerToken, 4096);
  assert.deepEqual(inspected.asked[0]!.cacheMaxEntryCount, { kind: 'blocks', blocks: 12 });
  const table = (await longmind(['inspect', 'a'])).stdout;
  assert.match(table, /KV cache .*64 blocks of 64 tokens/);
  assert.match(table, /^model {3}a: llama, .* parameters, Q8_0\nfile {4}\/models/);
  assert.match(table, /^tensors {2}type {2}count {2}parameters {2}in the file\n {9}Q8_0 {2}2 {6}1000 {8}1\.0 KiB$/m);
});

test('serve tells a port that is in use before it loads a model', async (t) => {
  const server = await createServer(new FakeEngine(), { serverPort: 0 });
  t.after(() => server.close());
  const { code, stdout, engines } = await longmind(['serve', '--server-port', String(server.port), '--json']);
  assert.equal(code, 1);
  assert.equal(JSON.parse(stdout).error.code, 'port_in_use');
  assert.equal(engines.length, 0);
});

test('bench: options of each measurement arrive typed, with their defaults', async () => {
  const ran = async (argv: string) => {
    const { code, stdout, stderr } = await longmind([...argv.split(' '), '--json']);
    assert.equal(code, 0, stderr + stdout);
    return JSON.parse(stdout);
  };
  assert.deepEqual(await ran('bench trace t.jsonl --policy lru --capacity-blocks 50'), {
    file: 't.jsonl',
    policy: 'lru',
    capacityBlocks: 50,
    windowHours: 24,
    seed: 1,
    bound: true,
  });
  assert.deepEqual(await ran('bench cache --blocks 10,20'), { blocks: [10, 20] });
  const load = {
    sessions: 3,
    turns: 5,
    arrivals: 'uniform',
    clients: 4,
    rate: 0,
    said: [5, 6],
    answered: 64,
    seed: 1,
  };
  assert.deepEqual(await ran('bench sessions --sessions 3 --said 5,6 --arrivals uniform --threads 1'), {
    ...load,
    mode: 'session',
  });
  const compared = { ...load, sessionLen: 2048, sameAnswers: true };
  assert.deepEqual(await ran('bench sessions --compare --share 0.5 --sessions 3 --said 5,6 --arrivals uniform'), {
    ...{ ...compared, share: 0.5, rounds: 1, rows: [] },
  });
  assert.deepEqual(await ran('bench sessions --sweep --capacities 100,9 --sessions 3 --said 5,6 --arrivals uniform'), {
    ...{ ...compared, capacities: [100, 9], rounds: 1, points: [] },
  });
  assert.deepEqual(
    await ran('bench sessions --compare-journal --session-len 512 --sessions 3 --said 5,6 --arrivals uniform'),
    { ...compared, sessionLen: 512, folder: '', rounds: 5 },
  );
  assert.deepEqual(await ran('bench perplexity --file f --bits 16,4 --threads 1 -m a'), {
    ...{ model: '/models/a.gguf', file: 'f', window: 1024, limit: 0, bits: [16, 4], threads: 1, rows: [] },
  });
  assert.deepEqual(await ran('bench recall --file f --evict'), {
    file: 'f',
    sessions: 1,
    limit: 0,
    turns: 0,
    evict: true,
    maxTokens: 24,
  });
  for (const argv of [
    'bench trace t',
    'bench trace t --capacity-blocks 0',
    'bench sessions --arrivals odd',
    'bench sessions --said 9,5',
    'bench sessions --compare --sweep',
    'bench sessions --compare --cache-max-entry-count 9',
    'bench perplexity --bits 5',
    'bench nothing',
  ])
    assert.equal((await longmind(argv.split(' '))).code, 2, argv);
});

test('bench: a comparison opens engines with its own sizes over the given options; other answers are a failure', async () => {
  const { asked, code } = await longmind('bench sessions --compare --threads 1 -m a.gguf'.split(' '));
  assert.equal(code, 0);
  assert.deepEqual(asked, [
    { model: 'a.gguf', threads: 1, cacheMaxEntryCount: 5, enablePrefixCaching: false, sessionLen: 64 },
  ]);
  for (const which of ['--compare', '--sweep', '--compare-disk', '--compare-journal'])
    assert.equal((await longmind(['bench', 'sessions', which, '--seed', '13'])).code, 1);
});

test('serve refuses options that cannot be served before a model is loaded', async () => {
  const { code, engines } = await longmind(['serve', '--server-name', '0.0.0.0']);
  assert.deepEqual([code, engines.length], [2, 0]);
});
