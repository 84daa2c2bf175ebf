/** Runs the command line in this process over a fake library, with captured streams. */
import { PassThrough } from 'node:stream';
import type { Library } from '../../src/cli/library.js';
import { main } from '../../src/cli/main.js';
import { errors } from '../../src/errors.js';
import { FakeEngine, type FakeOptions } from './fake-engine.js';

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
  /** What createEngine was given. */
  asked: Record<string, unknown>[];
  engines: FakeEngine[];
}

export async function longmind(
  argv: string[],
  { fake = {}, stdin = '', tty = false }: { fake?: FakeOptions; stdin?: string; tty?: boolean } = {},
): Promise<Ran> {
  const asked: Record<string, unknown>[] = [];
  const engines: FakeEngine[] = [];
  const io = {
    stdin: Object.assign(new PassThrough(), { isTTY: false }),
    stdout: Object.assign(new PassThrough(), { isTTY: tty }),
    stderr: Object.assign(new PassThrough(), { isTTY: tty, columns: 80 }),
    env: {},
  };
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    io[name].setEncoding('utf8').on('data', (d) => {
      texts[name] += d;
    });
  io.stdin.end(stdin);
  const library = fakeLibrary(fake, asked, engines);
  const code = await main(argv, library, () => import('../../src/server/index.js'), io);
  await new Promise((resolve) => setImmediate(resolve));
  return { code, ...texts, asked, engines };
}

function fakeLibrary(fake: FakeOptions, asked: Record<string, unknown>[], engines: FakeEngine[]): Library {
  const file = (ref: string) => ({ ref, path: `/models/${ref}.gguf`, bytes: 1536 });
  return {
    defaultModel: 'small',
    bench: {
      trace: async (options) => options,
      cache: async (options) => options,
      sessions: async (_engine, { onProgress: _, ...options }) => options,
      recall: async (_engine, { onProgress: _, ...options }) => options,
    },
    async createEngine({ onProgress, onPlan, onNote: _, signal, ...options }) {
      signal?.throwIfAborted();
      asked.push(options);
      if (options.model === 'missing.gguf') throw errors.fileMissing('missing.gguf');
      onPlan?.({ file: 'f', bytes: 0, present: 0 });
      onProgress?.('loading', 1, 2);
      onProgress?.('loading', 2, 2);
      const engine = new FakeEngine(fake);
      engines.push(engine);
      return engine;
    },
    resolveModel: async (ref) => file(ref),
    listModels: async () => [file('a'), file('longer')],
    removeModel: async (ref) => file(ref),
    inspectModel: async (ref, options) => {
      asked.push({ ...options });
      return { name: ref, dims: { layers: 2 }, memory: new FakeEngine().info.memory };
    },
  };
}
