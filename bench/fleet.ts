// npm run bench:fleet [-- --json --sessions 2000 --turns 5 --clients 200 --replicas 4 --kill 10 --stores redis,postgres
// --only kills|calm --no-fail]: several memo servers with one session store behind HAProxy, as deploy/haproxy configures it, while
// replicas are killed with SIGKILL and started again. Every answer must be that of one server that is never killed, and what was
// acknowledged must be there. About 15 minutes on 2 cores. Needs redis-server, postgresql and haproxy.
import './plain-errors.js';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openStore } from '../src/store/index.js';
import { drive, type Traffic, type TrafficResult } from './fleet-traffic.js';
import { answers, type StoreServer, startPostgres, startRedis } from './store-servers.js';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
    sessions: { type: 'string', default: '2000' },
    turns: { type: 'string', default: '5' },
    clients: { type: 'string', default: '200' },
    replicas: { type: 'string', default: '4' },
    kill: { type: 'string', default: '10' },
    stores: { type: 'string', default: 'redis,postgres' },
    only: { type: 'string', default: '' },
  },
});
const traffic: Traffic = {
  ...{ sessions: Number(args.sessions), turns: Number(args.turns), clients: Number(args.clients) },
};
const REPLICAS = Number(args.replicas);
const KILL_MS = 1000 * Number(args.kill);
const LEASE_S = 3;
/** Share of the turns after the first whose KV is to be found while nobody is killed, and how much of it is found then. */
const TARGET_FOUND = 0.9;
const MOST = 0.9;

/** The checkout: this file is dist/bench/fleet.js. */
const root = fileURLToPath(new URL('../..', import.meta.url));
const children = new Set<ChildProcess>();
const folder = mkdtempSync(join(os.tmpdir(), 'longmind-fleet-'));
const stores = new Set<StoreServer>();
process.once('SIGTERM', () => process.exit(143));
process.on('exit', () => {
  for (const s of stores) void s.crash();
  for (const c of children) c.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

function run(command: string, argv: string[]): ChildProcess {
  const child = spawn(command, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr!.on('data', (d) => {
    said = `${said}${d}`.slice(-1_000);
  });
  children.add(child);
  child.once('exit', (code) => {
    children.delete(child);
    // one that ends by itself
    if (code) process.stderr.write(`${command} ended with ${code}: ${said}\n`);
  });
  return child;
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, 'exit');
}

async function ready(port: number): Promise<void> {
  const start = performance.now();
  for (;;) {
    const status = await fetch(`http://127.0.0.1:${port}/ready`, { signal: AbortSignal.timeout(2_000) }).then(
      (r) => r.status,
      () => 0,
    );
    if (status === 200) return;
    if (performance.now() - start > 120_000) throw new Error(`nothing answers on port ${port}`);
    await sleep(50);
  }
}

/** KV of all conversations fits. */
const blocks = (share: number) => Math.ceil(5 * share * traffic.sessions) + 256;

const serve = (port: number, share: number, more: string[]): ChildProcess =>
  run(process.execPath, [
    ...[
      join(root, 'bin/longmind.js'),
      'serve',
      '-m',
      'memo',
      '--offline',
      '--server-port',
      `${port}`,
      '--threads',
      more.length > 0 ? '1' : '2',
      '--log-level',
      'silent',
    ],
    ...['--cache-max-entry-count', `${blocks(share)}`, '--max-queue', '100000', ...more],
  ]);

/** deploy/haproxy with as many servers as there are replicas. */
function proxyConfig(port: number, ports: number[]): string {
  const given = readFileSync(join(root, 'deploy/haproxy/haproxy.cfg'), 'utf8');
  const config = given
    .replace(/^ {2}server .*\n?/gm, '')
    .replace(/^ {2}bind .*$/m, `  bind 127.0.0.1:${port}`)
    .replace(/^ {2}log .*$/gm, '')
    .concat(ports.map((p, i) => `  server longmind-${i} 127.0.0.1:${p}\n`).join(''));
  const file = join(folder, 'haproxy.cfg');
  writeFileSync(file, config);
  return file;
}

const told = (what: string) => (done: number) => {
  if (process.stderr.isTTY) process.stderr.write(`\r${what}: ${done} of ${traffic.sessions} conversations  `);
};

/** One server that nobody kills. */
async function alone(): Promise<TrafficResult> {
  const port = await freePort();
  const child = serve(port, 1, []);
  await ready(port);
  const result = await drive(() => `http://127.0.0.1:${port}`, traffic, told('one server'));
  await end(child, 'SIGTERM');
  return result;
}

interface Row {
  store: string;
  kills: number;
  seconds: number;
  turnsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Share of turns after the first that found 90% of the KV of what came before. */
  found: number;
  different: number;
  lost: number;
  retries: Record<string, number>;
}

async function measure(name: string, start: () => Promise<StoreServer>, kills: boolean, expected: TrafficResult) {
  const store = await start();
  stores.add(store);
  const asked = await openStore(store.address, 'bench');
  await answers(() => asked.about());
  const about = await asked.about();
  const ports = await Promise.all(Array.from({ length: REPLICAS }, freePort));
  const more = ['--session-store', store.address, '--session-lease', `${LEASE_S}`];
  const replica = (port: number) => serve(port, kills ? 0.5 : 1 / REPLICAS + 0.1, more);
  const replicas = ports.map(replica);
  // it would send their conversations elsewhere until it has seen them
  await Promise.all(ports.map(ready));
  const port = await freePort();
  const proxy = run('haproxy', ['-db', '-f', proxyConfig(port, ports)]);
  await ready(port);
  const killer = kills ? new Killer(ports, replicas, replica) : null;
  const what = `${name}${kills ? ', killed' : ''}`;
  const result = await drive(() => `http://127.0.0.1:${port}`, traffic, told(what));
  const killed = (await killer?.stop()) ?? 0;
  for (const lost of result.lost.slice(0, 5)) process.stderr.write(`lost: ${lost}\n`);
  await Promise.all([...replicas, proxy].map((c) => end(c, 'SIGKILL')));
  await asked.close();
  await store.close();
  stores.delete(store);
  return rowOf(about, killed, result, expected);
}

/** Kills one after the other, and starts it again at once. */
class Killer {
  #kills = 0;
  #stopped = false;
  readonly #done: Promise<void>;
  readonly #stop = new AbortController();

  constructor(ports: number[], replicas: ChildProcess[], start: (port: number) => ChildProcess) {
    this.#done = this.#run(ports, replicas, start);
  }

  async #run(ports: number[], replicas: ChildProcess[], start: (port: number) => ChildProcess): Promise<void> {
    for (;;) {
      await sleep(KILL_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
      if (this.#stopped) return;
      const i = this.#kills++ % ports.length;
      await end(replicas[i]!, 'SIGKILL');
      replicas[i] = start(ports[i]!);
    }
  }

  async stop(): Promise<number> {
    this.#stopped = true;
    this.#stop.abort();
    await this.#done;
    return this.#kills;
  }
}

function rowOf(store: string, kills: number, result: TrafficResult, expected: TrafficResult): Row {
  const turns = result.answers.flat();
  const times = turns.map((t) => t.ms).sort((a, b) => a - b);
  const later = turns.filter((t) => t.before > 0);
  const wrong = result.answers.flatMap((session, s) =>
    session.flatMap((turn, i) => (turn.text === expected.answers[s]![i]!.text ? [] : [`session ${s}, turn ${i + 1}`])),
  );
  for (const w of wrong.slice(0, 5)) process.stderr.write(`another answer: ${w}\n`);
  return {
    store,
    kills,
    seconds: result.seconds,
    turnsPerSecond: turns.length / result.seconds,
    p50Ms: times[times.length >> 1]!,
    p99Ms: times[Math.floor(0.99 * (times.length - 1))]!,
    found: later.filter((t) => t.cachedTokens >= MOST * t.before).length / Math.max(1, later.length),
    different: wrong.length,
    lost: result.lost.length,
    retries: result.retries,
  };
}

const expected = await alone();
const rows: Row[] = [rowOf('one server, no store', 0, expected, expected)];
for (const kills of [true, false]) {
  if (args.only && (args.only === 'kills') !== kills) continue;
  for (const name of args.stores.split(',')) {
    const start = name === 'redis' ? startRedis : startPostgres;
    const row = await measure(name, start, kills, expected);
    rows.push(row);
    process.stderr.write(`${JSON.stringify(row)}\n`);
  }
}

const machine = `${os.cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${os.cpus().length} cores for all of it`;
if (args.json)
  console.log(JSON.stringify({ command: 'bench:fleet', machine, traffic, replicas: REPLICAS, rows }, null, 2));
else {
  if (process.stderr.isTTY) process.stderr.write('\n');
  console.log(
    `${REPLICAS} replicas, ${traffic.sessions} conversations of ${traffic.turns} turns, ${traffic.clients} clients; ${machine}`,
  );
  console.table(
    rows.map((r) => ({
      store: r.store,
      kills: r.kills,
      'turns/s': r.turnsPerSecond.toFixed(1),
      'P50 ms': r.p50Ms.toFixed(0),
      'P99 ms': r.p99Ms.toFixed(0),
      'KV found': `${(100 * r.found).toFixed(1)}%`,
      'other answers': r.different,
      'turns lost': r.lost,
      'asked again': Object.values(r.retries).reduce((a, b) => a + b, 0),
    })),
  );
}
const bad = rows.some((r) => r.different + r.lost > 0 || (r.kills === 0 && r.found < TARGET_FOUND));
if (bad && !args['no-fail']) process.exitCode = 1;
process.exit();
