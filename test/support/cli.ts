/** Runs the command line in this process over a fake library, with captured streams. */
import { PassThrough } from 'node:stream';
import type * as bench from '../../src/bench/index.js';
import type { Library } from '../../src/cli/library.js';
import { main } from '../../src/cli/main.js';
import { errors } from '../../src/errors.js';
import { FakeEngine, type FakeOptions } from './fake-engine.js';

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
  /** What createEngine was given. */
  asked: Record<string, unknown>[];
  engines: FakeEngine[];
}

/** Somebody at a terminal. */
export interface Person {
  type(keys: string): void;
  /** Waits until the screen shows it, after what was waited for before. */
  sees(what: RegExp | string): Promise<void>;
  engine(): FakeEngine;
}

export interface RunOptions {
  fake?: FakeOptions;
  stdin?: string;
  tty?: boolean;
  env?: Record<string, string>;
  /** Sits at the terminal; afterwards its input ends. */
  person?: (person: Person) => Promise<void>;
}

export async function longmind(
  argv: string[],
  { fake = {}, stdin = '', person, tty = person !== undefined, env = {} }: RunOptions = {},
): Promise<Ran> {
  const asked: Record<string, unknown>[] = [];
  const engines: FakeEngine[] = [];
  const io = {
    stdin: Object.assign(new PassThrough(), { isTTY: tty }),
    stdout: Object.assign(new PassThrough(), { isTTY: tty }),
    stderr: Object.assign(new PassThrough(), { isTTY: tty, columns: 80 }),
    env,
  };
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    io[name].setEncoding('utf8').on('data', (d) => {
      texts[name] += d;
    });
  if (!person) io.stdin.end(stdin);
  const library = fakeLibrary(fake, asked, engines);
  const running = main(argv, library, () => import('../../src/server/index.js'), io);
  if (person) {
    await person(personAt(io.stdin, () => texts.stdout, engines));
    io.stdin.end();
  }
  const code = await running;
  await new Promise((resolve) => setImmediate(resolve));
  return { code, ...texts, asked, engines };
}

function personAt(keyboard: PassThrough, screen: () => string, engines: FakeEngine[]): Person {
  let seen = 0;
  return {
    type: (keys) => void keyboard.write(keys),
    engine: () => engines[0]!,
    async sees(what) {
      for (const end = Date.now() + 5000; ; await new Promise((resolve) => setTimeout(resolve, 5))) {
        const rest = screen().slice(seen);
        const at = typeof what === 'string' ? rest.indexOf(what) : rest.search(what);
        if (at >= 0) {
          seen += at + (typeof what === 'string' ? what.length : what.exec(rest)![0].length);
          return;
        }
        if (Date.now() > end) throw new Error(`never saw ${what}; the screen shows ${JSON.stringify(rest)}`);
      }
    },
  };
}

/** A measurement that opens one engine and answers what it was asked; with seed 13, its answers differed. */
async function measured(open: bench.OpenEngine, { onProgress: _, ...options }: { onProgress?: unknown; seed: number }) {
  await using _engine = await open({ cacheMaxEntryCount: 5, enablePrefixCaching: false, sessionLen: 64 });
  return { ...options, sameAnswers: options.seed !== 13 };
}

function fakeLibrary(fake: FakeOptions, asked: Record<string, unknown>[], engines: FakeEngine[]): Library {
  const file = (ref = 'small') => ({ ref, path: `/models/${ref}.gguf`, bytes: 1536 });
  return {
    examineDevices: () => [],
    storeAddress: () => null,
    examineStore: async () => ({ ok: true, detail: '' }),
    defaultModel: 'small',
    loadBench: async () => ({
      trace: async (options) => options,
      cache: async (options) => options,
      sessions: async (_engine, { onProgress: _, ...options }) => options,
      recall: async (_engine, { onProgress: _, ...options }) => options,
      sessionsCompare: async (open, o) => ({ ...(await measured(open, o)), rows: [] }) as never,
      sessionsSweep: async (open, o) => ({ ...(await measured(open, o)), points: [] }) as never,
      sessionsDisk: async (open, o) => ({ ...(await measured(open, o)), rows: [] }) as never,
      sessionsJournal: async (open, o) => (await measured(open, o)) as never,
      perplexity: async ({ onProgress: _, ...options }) => ({ ...options, rows: [] }) as never,
    }),
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
    convert: async (_folder, output) => ({ path: output, from: 1000, bytes: 1000, types: { F16: 2 } }),
    quantize: async (_input, output) => ({ path: output, from: 1000, bytes: 500, types: { Q4_K: 2 } }),
    inspectModel: async (ref, options) => {
      asked.push({ ...options });
      const { info } = new FakeEngine();
      const { dims, memory, architecture, contextLength, sessionLen, parameters } = info;
      const byType = { Q8_0: { tensors: 2, bytes: 1024, parameters: 1000 } };
      const quantisation = { name: 'Q8_0', bytes: 1024, byType };
      const shape = { dims, memory, architecture, contextLength, sessionLen, parameters };
      return {
        name: ref ?? 'small',
        path: '/models/small.gguf',
        ...shape,
        device: info.device,
        quantisation,
        kvBytesPerToken: 4096,
        experts: null,
        draftModel: null,
      };
    },
  };
}
