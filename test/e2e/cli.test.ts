/** The command line as a process, with a real model where one is at hand. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { smollmPath, withoutSmollm } from '../support/model.js';
import { finish, start } from '../support/spawn.js';

const path = await smollmPath();
const skip = withoutSmollm(path);
const small = ['--cache-max-entry-count', '32'];

interface Failure {
  error: { code: string; message: string };
}

test('bad input: one clear line, a status, and with --json an object', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longmind-'));
  try {
    const corrupt = join(folder, 'corrupt.gguf');
    await writeFile(corrupt, Buffer.concat([Buffer.from('GGUF'), Buffer.alloc(64, 0xff)]));
    const cases: [string[], number, string][] = [
      [['generate', '-p', 'x', '-m', join(folder, 'none.gguf')], 1, 'file_missing'],
      [['generate', '-p', 'x', '-m', corrupt], 1, 'bad_gguf'],
      [['inspect', corrupt], 1, 'bad_gguf'],
      [['generate', '-p', 'x', '-m', 'no-such-alias'], 2, 'invalid_option'],
      [['generate', '-p', 'x', '-m', 'hf:nobody/nothing', '--offline'], 1, 'offline'],
      [['generate', '-p', 'x', '--cache-max-entry-count', '1.5'], 2, 'usage'],
      [['generate', '--propmt', 'x'], 2, 'usage'],
    ];
    for (const [argv, status, code] of cases) {
      const [json, plain] = await Promise.all([finish([...argv, '--json']), finish(argv)]);
      const { error } = JSON.parse(json.stdout) as Failure;
      assert.equal(json.code, status, `${argv.join(' ')}: ${json.stdout}${json.stderr}`);
      assert.equal(error.code, code, error.message);
      assert.deepEqual([plain.code, plain.stdout], [status, '']);
      assert.match(plain.stderr, /^longmind: /m);
      assert.doesNotMatch(plain.stderr, /\n\s+at /, 'no stack');
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe('with a real model', { skip }, () => {
  test('generate --json: greedy text twice the same, usage and timings that make sense', async () => {
    const argv = ['generate', '-m', path!, '--prompt', 'The capital of France is', '--max-tokens', '6'];
    argv.push('--temperature', '0', '--json', ...small);
    const runs = await Promise.all([finish(argv), finish(argv)]);
    const [a, b] = runs.map((r) => {
      assert.deepEqual([r.code, r.stderr], [0, '']);
      assert.equal(r.stdout.trimEnd().split('\n').length, 1);
      return JSON.parse(r.stdout);
    });
    assert.match(a.text, /Paris/);
    assert.equal(a.tokenIds.length, a.usage.completionTokens);
    assert.deepEqual(a.tokenIds, b.tokenIds);
    const { loadMs, ttftMs, perTokenMs, totalMs } = a.timings;
    assert.ok(loadMs > 0 && ttftMs > 0 && perTokenMs > 0 && totalMs >= ttftMs);
  });

  test('inspect --json: dims, quantisation, bytes per token, and the split at a given cache size', async () => {
    const { code, stdout } = await finish(['inspect', path!, '--json', '--cache-max-entry-count', '100']);
    assert.equal(code, 0);
    const info = JSON.parse(stdout);
    assert.deepEqual([info.dims.layers, info.dims.dim, info.dims.heads, info.dims.kvHeads], [30, 576, 9, 3]);
    // 30 layers × 3 heads × 64 × (K and V) × 2 bytes
    assert.equal(info.memory.bytesPerToken, 30 * 3 * 64 * 2 * 2);
    assert.equal(info.memory.kvBlocks, 100);
    assert.ok(info.memory.weightBytes > 50e6);
    assert.match(JSON.stringify(info), /Q4_1/);
  });

  test('chat from a pipe: the second turn knows the first', async () => {
    const argv = ['chat', '-m', path!, '--temperature', '0', '--max-tokens', '40', ...small];
    const { code, stdout } = await finish(argv, {
      stdin: 'The secret word is pineapple. Repeat the secret word.\nWhat is the secret word?\n',
    });
    assert.equal(code, 0);
    assert.match(stdout.slice(stdout.indexOf('\n')), /pineapple/);
  });

  test('serve: prints what it serves and a curl line that works; SIGTERM ends it with status 0', async () => {
    const server = start(['serve', '-m', path!, '--server-port', '0', ...small]);
    try {
      const url = await waitFor(() => /ready after .*: (http:\S+)/.exec(server.stdout())?.[1]);
      for (const part of ['weights', 'workspace', 'KV cache', 'blocks of 64 tokens'])
        assert.ok(server.stdout().includes(part));
      const curl = await waitFor(() => /curl (\S+) \\\n\s+-H '([^']+)' \\\n\s+-d '([^']+)'/.exec(server.stdout()));
      assert.equal(curl[1], `${url}/v1/chat/completions`);
      const [name, value] = curl[2]!.split(': ') as [string, string];
      const body = JSON.stringify({ ...JSON.parse(curl[3]!), max_tokens: 5 });
      const response = await fetch(curl[1]!, { method: 'POST', headers: { [name]: value }, body });
      assert.equal(response.status, 200);
      server.child.kill('SIGTERM');
      const { code, stderr } = await server.finished;
      assert.equal(code, 0, stderr);
    } finally {
      server.child.kill('SIGKILL');
    }
  });

  test('serve --json: one line when ready; SIGTERM in the middle of a stream lets it finish', async () => {
    const server = start(['serve', '-m', path!, '--server-port', '0', '--json', ...small]);
    try {
      const line = await waitFor(() => server.stdout().includes('\n') && server.stdout());
      const { url, model, memory } = JSON.parse(line) as { url: string; model: string; memory: { kvBlocks: number } };
      assert.equal(memory.kvBlocks, 32);
      const body = JSON.stringify({ model, prompt: 'Once', max_tokens: 60, ignore_eos: true, stream: true });
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body });
      server.child.kill('SIGTERM');
      const text = await response.text();
      assert.match(text, /"finish_reason":"length"\}\]\}\n\ndata: \[DONE\]\n\n$/);
      assert.equal((await server.finished).code, 0);
    } finally {
      server.child.kill('SIGKILL');
    }
  });

  test('bench sessions --json: hits, misses and throughput of real conversations', async () => {
    const argv = [
      'bench',
      'sessions',
      '-m',
      path!,
      '--sessions',
      '3',
      '--turns',
      '2',
      '--said',
      '4,8',
      '--answered',
      '4',
    ];
    const { code, stdout, stderr } = await finish([...argv, '--json', ...small]);
    assert.equal(code, 0, stderr);
    const result = JSON.parse(stdout);
    assert.equal(result.turns, 6);
    assert.ok(result.outputRate > 0 && result.hitRate > 0);
  });

  test('serve: a port in use is a typed error', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => holder.once('listening', resolve));
    const { port } = holder.address() as { port: number };
    const { code, stdout } = await finish(['serve', '-m', path!, '--server-port', String(port), '--json', ...small]);
    holder.close();
    assert.equal(code, 1);
    assert.equal((JSON.parse(stdout) as Failure).error.code, 'port_in_use');
  });

  test('Ctrl-C while generating: status 130, and soon', async () => {
    const running = start(['generate', '-m', path!, '-p', 'Once', '--max-tokens', '2000', '--ignore-eos', ...small]);
    await waitFor(() => running.stdout().length > 0);
    const at = performance.now();
    running.child.kill('SIGINT');
    assert.equal((await running.finished).code, 130);
    assert.ok(performance.now() - at < 3000);
  });
});

async function waitFor<T>(probe: () => T | undefined | null | false, ms = 60_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const value = probe();
    if (value) return value;
    if (Date.now() > end) throw new Error('waited in vain');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
