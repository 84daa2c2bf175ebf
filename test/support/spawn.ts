/** Runs bin/longmind.js, as a user would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The checkout: this file is dist/test/support/spawn.js. */
export const root = fileURLToPath(new URL('../../..', import.meta.url));
export const bin = `${root}bin/longmind.js`;

export interface Finished {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

interface Running {
  child: ChildProcess;
  finished: Promise<Finished>;
  /** What stdout has so far. */
  stdout(): string;
}

export function start(argv: string[], { stdin = '', script = bin }: { stdin?: string; script?: string } = {}): Running {
  const child = spawn(process.execPath, [script, ...argv], { stdio: 'pipe' });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (d: string) => {
      texts[name] += d;
    });
  child.stdin.end(stdin);
  const finished = new Promise<Finished>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, ...texts }));
  });
  return { child, finished, stdout: () => texts.stdout };
}

export const finish = (argv: string[], options?: { stdin?: string; script?: string }): Promise<Finished> =>
  start(argv, options).finished;
