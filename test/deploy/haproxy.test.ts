/** Two memo servers behind HAProxy as deploy/haproxy configures it: a conversation stays where its KV is. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createServer as createNetServer } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createEngine } from '../../src/index.js';
import { createServer } from '../../src/server/index.js';
import { bundledModelPath } from '../support/model-file.js';
import { root } from '../support/spawn.js';

const config = `${root}deploy/haproxy/haproxy.cfg`;
const skip =
  spawnSync('haproxy', ['-v']).status === 0 ? false : 'there is no haproxy here (Debian: apt-get install haproxy)';

interface Answer {
  choices: { message: { content: string } }[];
  usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
}

async function freePort(): Promise<number> {
  const probe = createNetServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

const settled = async (url: string, wanted: number): Promise<void> => {
  for (let i = 0; i < 300; i++) {
    const status = await fetch(`${url}/ready`).then(
      (r) => r.status,
      () => 0,
    );
    if (status === wanted) return;
    await sleep(100);
  }
  throw new Error(`${url} never answered ${wanted}`);
};

test('the same X-Session-Id finds the same server and its KV; one that is gone is replaced by the other', {
  skip,
}, async (t) => {
  const options = { model: bundledModelPath()!, cacheMaxEntryCount: 256, threads: 1 };
  const replicas = await Promise.all(
    [0, 1].map(async () => {
      const engine = await createEngine(options);
      const server = await createServer(engine, { serverPort: 0, logLevel: 'silent' });
      t.after(async () => {
        await server.close({ drainMs: 0 });
        await engine.close();
      });
      return { engine, server };
    }),
  );
  const port = await freePort();
  const env = { ...process.env, LISTEN: `127.0.0.1:${port}` } as Record<string, string>;
  replicas.forEach(({ server }, i) => {
    env[`SERVER_${i}`] = `127.0.0.1:${server.port}`;
  });
  const proxy = spawn('haproxy', ['-db', '-f', config], { env, stdio: 'ignore' });
  t.after(() => proxy.kill('SIGKILL'));
  const url = `http://127.0.0.1:${port}`;
  await settled(url, 200);

  const ask = async (session: string, messages: { role: string; content: string }[]): Promise<Answer> => {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-session-id': session },
      body: JSON.stringify({ session_id: session, temperature: 0, max_tokens: 24, messages }),
    });
    assert.equal(response.status, 200, await response.clone().text());
    return (await response.json()) as Answer;
  };
  const names = Array.from({ length: 16 }, (_, i) => `conversation-${i}`);
  const histories = new Map(names.map((n, i) => [n, [{ role: 'user', content: `My locker code is ${40_000 + i}.` }]]));
  for (const turn of ['', 'What is my locker code?', 'And once more, what is my locker code?'])
    for (const [name, history] of histories) {
      if (turn) history.push({ role: 'user', content: turn });
      const { choices, usage } = await ask(name, history);
      history.push({ role: 'assistant', content: choices[0]!.message.content });
      if (turn)
        assert.ok(
          usage.prompt_tokens_details.cached_tokens > usage.prompt_tokens / 3,
          `${name}: ${JSON.stringify(usage)}`,
        );
    }
  const held = await Promise.all(replicas.map(async ({ engine }) => (await engine.sessions.list()).map((s) => s.id)));
  assert.deepEqual(held.flat().sort(), [...names].sort(), 'each conversation is on one server alone');
  assert.ok(
    held.every((h) => h.length >= 2),
    `on both: ${held.map((h) => h.length)}`,
  );

  // its server is gone: the history is enough for the other one to give the same answer
  const [name] = held[1]!;
  const history = [...histories.get(name!)!, { role: 'user', content: 'What is my locker code?' }];
  const before = await ask(name!, history);
  await replicas[1]!.server.close({ drainMs: 0 });
  await settled(url, 200);
  const after = await ask(name!, history);
  assert.equal(after.choices[0]!.message.content, before.choices[0]!.message.content);
  assert.ok((await replicas[0]!.engine.sessions.list()).some((s) => s.id === name));
});

test('who sends no session gets a cookie, and by it the same server again', { skip }, async (t) => {
  const seen: number[] = [];
  const { createServer: createHttp } = await import('node:http');
  const servers = [0, 1].map((i) =>
    createHttp((request, response) => {
      if (request.url !== '/ready') seen.push(i);
      response.end('ok');
    }).listen(0, '127.0.0.1'),
  );
  await Promise.all(servers.map((s) => s.listening || new Promise((resolve) => s.once('listening', resolve))));
  const port = await freePort();
  const at = (i: number) => `127.0.0.1:${(servers[i]!.address() as { port: number }).port}`;
  const env = { ...process.env, LISTEN: `127.0.0.1:${port}`, SERVER_0: at(0), SERVER_1: at(1) };
  const proxy = spawn('haproxy', ['-db', '-f', config], { env, stdio: 'ignore' });
  t.after(() => {
    proxy.kill('SIGKILL');
    for (const s of servers) s.close();
    for (const s of servers) s.closeAllConnections();
  });
  const url = `http://127.0.0.1:${port}`;
  await settled(url, 200);
  const cookies = await Promise.all(
    Array.from({ length: 12 }, async () => (await fetch(url)).headers.get('set-cookie')!.split(';')[0]!),
  );
  assert.equal(new Set(cookies).size, 12, 'everybody has their own');
  const used = new Set<number>();
  for (const cookie of cookies) {
    seen.length = 0;
    for (let i = 0; i < 4; i++) {
      const response = await fetch(url, { headers: { cookie } });
      assert.equal(response.headers.get('set-cookie'), null, 'it has one already');
    }
    assert.equal(new Set(seen).size, 1, `${cookie}: ${seen}`);
    used.add(seen[0]!);
  }
  assert.deepEqual([...used].sort(), [0, 1]);
});
