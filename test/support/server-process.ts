/** `longmind serve` as a process, as a user has it, and what tests do to it. Nothing survives the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { MemorySplit } from '../../src/types.js';
import { smollmPath } from './model.js';
import { bundledModelPath, root } from './model-file.js';
import { bin } from './spawn.js';

/** The bundled model, else the default one; null where neither can be had. */
export const modelPath: string | null = bundledModelPath() ?? (await smollmPath());
export const withoutModel: string | false = modelPath === null ? 'SKIPPED: there is no model here' : false;

export interface ServerProcess {
  url: string;
  port: number;
  memory: MemorySplit;
  child: ChildProcess;
  /** Exit status, or the name of the signal. */
  ended: Promise<number | string>;
  stderr(): string;
  post(path: string, body: unknown, signal?: AbortSignal): Promise<Response>;
  get(path: string): Promise<Response>;
  /** A sample of /metrics, labels included. */
  metric(name: string): Promise<number>;
  /** Makes a fault of faults.ts happen, once. */
  fault(name: string): void;
}

interface ServeOptions {
  argv?: string[];
  /** Bytes that a file may have (RLIMIT_FSIZE): beyond that writing fails, as on a full disk. */
  fileLimit?: number;
  /** Folder of a control group that it runs in. */
  cgroup?: string;
  env?: NodeJS.ProcessEnv;
}

export async function serve(t: TestContext, options: ServeOptions = {}): Promise<ServerProcess> {
  const { argv = [], fileLimit, cgroup } = options;
  const faults = mkdtempSync(join(tmpdir(), 'longmind-faults-'));
  const node = [
    process.execPath,
    '--import',
    join(root, 'dist/test/support/faults.js'),
    bin,
    'serve',
    '-m',
    modelPath!,
  ];
  node.push('--server-port', '0', '--json', '--cache-max-entry-count', '128', '--log-level', 'error', ...argv);
  const limits = [
    ...(fileLimit === undefined ? [] : [`ulimit -f ${Math.ceil(fileLimit / 1024)}`]),
    ...(cgroup === undefined ? [] : [`echo $$ > '${cgroup}/cgroup.procs'`]),
  ];
  const limited = ['bash', '-c', [...limits, 'exec "$@"'].join(' && '), 'limited', ...node];
  const [command, ...rest] = limits.length === 0 ? node : limited;
  const env = { ...process.env, ...options.env, TEST_FAULTS: faults };
  const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'pipe'], env });
  const ended = new Promise<number | string>((resolve) => {
    child.on('close', (code, signal) => resolve(code ?? signal!));
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(faults, { recursive: true });
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (d: string) => {
    stderr += d;
  });
  const line = await new Promise<string>((resolve, reject) => {
    let out = '';
    child.stdout!.setEncoding('utf8').on('data', (d: string) => {
      out += d;
      if (out.startsWith('{"url"') && out.includes('\n')) resolve(out);
    });
    void ended.then((how) => reject(new Error(`the server ended with ${how}: ${out}${stderr}`)));
  });
  const { url, memory } = JSON.parse(line) as { url: string; memory: MemorySplit };
  const headers = { 'content-type': 'application/json' };
  const get = (path: string) => fetch(url + path);
  return {
    url,
    port: Number(new URL(url).port),
    memory,
    child,
    ended,
    stderr: () => stderr,
    get,
    post: (path, body, signal) => fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body), signal }),
    metric: async (name) => {
      const text = await (await get('/metrics')).text();
      const found = text.split('\n').find((l) => l.startsWith(`${name} `));
      if (found === undefined) throw new Error(`there is no metric ${name}`);
      return Number(found.slice(name.length + 1));
    },
    fault: (name) => writeFileSync(join(faults, name), ''),
  };
}
