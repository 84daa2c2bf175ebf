/** Session store servers that a test starts and ends by itself: a folder of their own, a port of their own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface StoreServer {
  address: string;
  /** Ends it as a crash would, and waits until it is gone. */
  crash(): Promise<void>;
  start(): void;
  close(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, 'exit');
}

function serverOf(address: string, folder: string, crash: NodeJS.Signals, run: () => ChildProcess): StoreServer {
  let child = run();
  return {
    address,
    crash: () => end(child, crash),
    start: () => {
      child = run();
    },
    close: async () => {
      // the folder goes with it
      await end(child, crash);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** `more`: options in place of those that lose nothing. */
export async function startRedis(more: string[] = []): Promise<StoreServer> {
  const folder = mkdtempSync(join(tmpdir(), 'longmind-redis-'));
  const port = await freePort();
  const args = [
    '--port',
    `${port}`,
    '--bind',
    '127.0.0.1',
    '--dir',
    folder,
    '--appendonly',
    'yes',
    '--appendfsync',
    'always',
    ...more,
  ];
  const run = () => spawn('redis-server', args, { stdio: 'ignore' });
  return serverOf(`redis://127.0.0.1:${port}/0`, folder, 'SIGKILL', run);
}

/** Debian keeps them out of the PATH. */
function postgresProgram(name: string): string {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root) : [];
  return versions.map((v) => join(root, v, 'bin', name)).find(existsSync) ?? name;
}

/** PostgreSQL refuses root: then it runs as the user that its package made. */
function postgresUser(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const of = (flag: string) => Number(spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' }).stdout);
  return { uid: of('-u'), gid: of('-g') };
}

export async function startPostgres(): Promise<StoreServer> {
  const folder = mkdtempSync(join(tmpdir(), 'longmind-postgres-'));
  const user = postgresUser();
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid!);
  const made = spawnSync(postgresProgram('initdb'), ['-D', folder, '-A', 'trust', '-U', 'longmind', '--no-sync'], {
    ...user,
    cwd: folder,
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr ?? made.error}`);
  const port = await freePort();
  const args = ['-D', folder, '-p', `${port}`, '-h', '127.0.0.1', '-k', folder];
  const run = () => spawn(postgresProgram('postgres'), args, { ...user, cwd: folder, stdio: 'ignore' });
  // SIGQUIT: at once and without a checkpoint; SIGKILL would leave its children behind
  return serverOf(`postgres://longmind@127.0.0.1:${port}/postgres`, folder, 'SIGQUIT', run);
}

/** Tries until the server answers. */
export async function answers(ask: () => Promise<unknown>): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await ask();
      return;
    } catch (e) {
      if (tries === 100) throw e;
      await sleep(50);
    }
  }
}
