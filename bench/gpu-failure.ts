/**
 * npm run bench:gpu-failure -- MODEL.gguf [--device cuda] [--tp N] [--victim 0] [--json]: a GPU that really fails in the middle of a step. A
 * kernel of this script writes to address 0 in the context of the victim, which CUDA gives up then, while requests of the engine
 * run. Whoever was in flight must hear of it by a typed error, sessions must keep their ids, and the engine must end; then a process
 * that begins with the same session store must go on with them as if nothing had been.
 */
import './plain-errors.js';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import koffi from 'koffi';
import { createEngine, type Engine, LongmindError } from '../src/index.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: 'cuda' },
    tp: { type: 'string', default: '1' },
    victim: { type: 'string', default: '0' },
    json: { type: 'boolean', default: false },
    /** Inside: the process after the failure. */
    store: { type: 'string', default: '' },
  },
});
const [model] = positionals;
if (!model) {
  console.error('usage: npm run bench:gpu-failure -- MODEL.gguf [--device cuda] [--tp N] [--victim 0] [--json]');
  process.exit(2);
}
const SESSIONS = 4;
const greedy = { temperature: 0, ignoreEos: true, maxTokens: 16 };
const said = (s: number, turn: number): number[] =>
  Array.from({ length: 60 }, (_, i) => 300 + ((i * 7919 + s * 1543 + turn * 31) % 3000));
const names = Array.from({ length: SESSIONS }, (_, s) => `s${s}`);
const folder = args.store || mkdtempSync(path.join(os.tmpdir(), 'longmind-failure-'));
const open = (): Promise<Engine> =>
  createEngine({
    model,
    device: args.device,
    tp: Number(args.tp),
    sessionLen: 4096,
    cacheMaxEntryCount: 400,
    sessionStore: folder,
  });

const POISON = `.version 7.0
.target sm_80
.address_size 64
.visible .entry poison() { .reg .b64 a; .reg .b32 v; mov.u64 a, 0; mov.u32 v, 1; st.global.u32 [a], v; ret; }
`;

/** In the primary context, which is the engine's. */
function poison(gpu: number): void {
  const cuda = koffi.load('libcuda.so.1');
  const call = (name: string, types: string, ...values: unknown[]): void => {
    const code = cuda.func(`int ${name}(${types})`)(...values);
    if (code !== 0) throw new Error(`${name}: ${code}`);
  };
  const out = (name: string, types: string, ...values: unknown[]): unknown => {
    const place = [null];
    call(name, `_Out_ void **${types}`, place, ...values);
    return place[0];
  };
  call('cuInit', 'uint32_t', 0);
  const context = out('cuDevicePrimaryCtxRetain', ', int', gpu);
  call('cuCtxSetCurrent', 'void *', context);
  const module = out('cuModuleLoadData', ', const char *', POISON);
  const kernel = out('cuModuleGetFunction', ', void *, const char *', module, 'poison');
  const sizes = `void *, ${Array(7).fill('uint32_t').join(', ')}, void *, void *, void *`;
  call('cuLaunchKernel', sizes, kernel, 1, 1, 1, 1, 1, 1, 0, null, null, null);
}

const problems: string[] = [];
const must = (good: boolean, what: string): void => {
  if (!good) problems.push(what);
};

async function fails(): Promise<Record<string, unknown>> {
  const engine = await open();
  const told: string[] = [];
  engine.onProblem((problem) => told.push(problem));
  for (const [s, sessionId] of names.entries())
    await engine.complete({ prompt: said(s, 0), sessionId, sessionAppend: true, ...greedy }).result();
  const before = await engine.sessions.list();
  const running = names.map((sessionId, s) =>
    engine.complete({ prompt: said(s, 1), sessionId, sessionAppend: true, ...greedy, maxTokens: 3000 }).result(),
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  const begun = performance.now();
  poison(Number(args.victim));
  const ends = await Promise.allSettled(running);
  const heardMs = performance.now() - begun;
  const codes = ends.map((e) =>
    e.status === 'fulfilled' ? 'finished' : e.reason instanceof LongmindError ? e.reason.code : `${e.reason}`,
  );
  for (const code of codes)
    must(
      ['native_error', 'engine_failed', 'cuda_unavailable'].includes(code),
      `a request in flight ended with ${code}`,
    );
  const first = ends.find((e) => e.status === 'rejected')?.reason as Error | undefined;
  const late = await engine
    .complete({ prompt: said(9, 0), ...greedy })
    .result()
    .then(
      () => 'finished',
      (e: unknown) => (e instanceof LongmindError ? e.code : `${e}`),
    );
  const after = await engine.sessions.list().catch((e: unknown) => (e instanceof LongmindError ? e.code : `${e}`));
  must(late !== 'finished', 'a request after the failure finished');
  const ids = (sessions: { id: string }[]): string => sessions.map(({ id }) => id).toString();
  must(Array.isArray(after) && ids(after) === ids(before), `sessions after the failure: ${JSON.stringify(after)}`);
  const closing = performance.now();
  const closed = await Promise.race([
    engine.close().then(() => 'closed', String),
    new Promise((r) => setTimeout(() => r('not closed in 60 s'), 60_000)),
  ]);
  must(closed === 'closed', `the engine: ${closed}`);
  return {
    before: before.map((s) => s.id),
    after: Array.isArray(after) ? after.map((s) => s.id) : after,
    codes,
    message: first?.message,
    late,
    told,
    heardMs,
    closeMs: performance.now() - closing,
  };
}

/** In another process: the sessions are there, and go on as their whole history does without them. */
async function goOn(): Promise<void> {
  await using engine = await open();
  const found = await engine.sessions.list();
  must(
    names.every((id) => found.some((s) => s.id === id)),
    `sessions found again: ${found.map((s) => s.id)}`,
  );
  for (const [s, sessionId] of names.entries()) {
    const history = await engine.sessions.tokens(sessionId);
    const next = said(s, 2);
    const whole = await engine.complete({ prompt: [...history, ...next], ...greedy }).result();
    const turn = await engine.complete({ prompt: next, sessionId, sessionAppend: true, ...greedy }).result();
    must(history.length >= 76, `session ${sessionId} has ${history.length} tokens`);
    must(JSON.stringify(turn.tokenIds) === JSON.stringify(whole.tokenIds), `session ${sessionId} goes on otherwise`);
  }
}

if (args.store) {
  await goOn();
  for (const p of problems) console.error(p);
} else {
  const row = await fails();
  const again = spawnSync(
    process.execPath,
    [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--store', folder],
    { encoding: 'utf8', timeout: 120_000 },
  );
  must(again.status === 0, `the process after it: ${again.status} ${again.stderr}`);
  rmSync(folder, { recursive: true });
  console.log(args.json ? JSON.stringify({ ...row, problems }) : { ...row, problems });
}
process.exit(problems.length === 0 ? 0 : 1);
