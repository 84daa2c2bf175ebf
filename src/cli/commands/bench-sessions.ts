/** longmind bench sessions: many conversations of many turns, once or compared. */
import type { Command } from 'commander';
import type * as bench from '../../bench/index.js';
import { engineOptions, hubOptions } from '../../index.js';
import { addModelOptions, type Context, JSON_FLAG, loadEngine, newCommand } from '../context.js';
import type { Bench } from '../library.js';
import { given } from '../options.js';
import { counter, integer, integers, letSignalsEnd, number, oneOf, range, show, showTable } from './bench-values.js';

interface Options extends bench.SessionsOptions {
  compare?: boolean;
  sweep?: boolean;
  compareDisk?: boolean;
  compareJournal?: boolean;
  share: number;
  capacities: number[];
  rounds?: number;
  folder: string;
}

/** Sessions of the comparisons are no longer than this, unless --session-len says otherwise. */
const COMPARED_SESSION_LEN = 2048;
/** Of these, each measurement sets its own. */
const SET_BY_MEASUREMENT = ['cacheMaxEntryCount', 'enablePrefixCaching', 'sessionStore', 'cacheDisk', 'mode'];

export function sessionsCommand(context: Context): Command {
  const command = newCommand('sessions', 'Many conversations of many turns: throughput and time to the first token', [
    'bench sessions --cache-max-entry-count 200 --json',
    'bench sessions --mode history --no-enable-prefix-caching',
    'bench sessions --compare --arrivals zipf --seed 1',
    'bench sessions --sweep --capacities 100,50,25,10 --json',
  ]);
  addLoadOptions(command);
  command.option(
    '--mode <HOW>',
    'a session and the new turn, or the whole history',
    oneOf(['session', 'history']),
    'session',
  );
  command.option('--compare', 'with sessions, with a prefix cache alone, and stateless; room for all and for --share');
  command.option(
    '--share <X>',
    '--compare, --compare-disk: the small KV cache over the one that holds all sessions',
    number(0, 1),
    0.25,
  );
  command.option('--sweep', 'the same load at each of --capacities');
  command.option(
    '--capacities <N,…>',
    '--sweep: percent of the KV cache that holds all',
    integers(1),
    [100, 75, 50, 35, 25, 15, 10],
  );
  command.option('--compare-disk', 'with the small KV cache: with and without --cache-disk');
  command.option('--compare-journal', 'with and without --session-store, in turns');
  command.option('--folder <DIR>', 'where the disk or the journals go meanwhile (default: temporary files)', '');
  command.option('--rounds <N>', 'repetitions of a comparison (default: 1; of the journal: 5)', integer(1));
  command.option(...JSON_FLAG);
  addModelOptions(command, context.library.defaultModel);
  return command.action(async () => {
    const options = command.opts<Options>();
    const chosen = (['compare', 'sweep', 'compareDisk', 'compareJournal'] as const).filter((name) => options[name]);
    if (chosen.length > 1) command.error('error: give one of --compare, --sweep, --compare-disk and --compare-journal');
    if (chosen.length === 0) return once(context, command, options);
    const clash = SET_BY_MEASUREMENT.filter((name) => command.getOptionValueSource(name) === 'cli');
    if (clash.length > 0) command.error(`error: this measurement sets ${clash.join(', ')} itself`);
    letSignalsEnd(context);
    await measurements[chosen[0]!](context, command, options);
  });
}

function addLoadOptions(command: Command): void {
  command.option('--sessions <N>', 'conversations', integer(1), 32);
  command.option('--turns <N>', 'turns of each on average', integer(1), 5);
  command.option('--arrivals <HOW>', 'who speaks next', oneOf(['zipf', 'uniform', 'round-robin']), 'zipf');
  command.option('--clients <N>', 'turns in flight at a time', integer(1), 4);
  command.option('--rate <X>', 'Poisson arrivals a second instead of --clients', number(0), 0);
  command.option('--said <MIN,MAX>', 'tokens that a user says', range(1), [60, 120]);
  command.option('--answered <N>', 'tokens answered', integer(1), 64);
  command.option('--seed <N>', 'the same seed gives the same conversations', integer(0), 1);
}

function loadOf({ sessions, turns, arrivals, clients, rate, said, answered, seed }: Options): bench.LoadOptions {
  return { sessions, turns, arrivals, clients, rate, said, answered, seed };
}

async function once(context: Context, command: Command, options: Options): Promise<void> {
  await using engine = await loadEngine(context, command);
  letSignalsEnd(context);
  const onProgress = counter(context, 'turns');
  const { mode } = options;
  const bench = await context.library.loadBench();
  show(context, await bench.sessions(engine, { ...loadOf(options), mode, onProgress }));
}

const measurements: Record<
  'compare' | 'sweep' | 'compareDisk' | 'compareJournal',
  (context: Context, command: Command, options: Options) => Promise<void>
> = {
  async compare(context, command, options) {
    const { sessionsCompare } = await context.library.loadBench();
    const { share, rounds = 1 } = options;
    const result = await sessionsCompare(opener(context, command), {
      ...shared(context, command, options),
      share,
      rounds,
    });
    report(context, result, result.rows.map(compareRow));
  },
  async sweep(context, command, options) {
    const { sessionsSweep } = await context.library.loadBench();
    const { capacities, rounds = 1 } = options;
    const o = { ...shared(context, command, options), capacities, rounds };
    const result = await sessionsSweep(opener(context, command), o);
    report(context, result, result.points.map(sweepRow));
  },
  async compareDisk(context, command, options) {
    const { sessionsDisk } = await context.library.loadBench();
    const { share, folder, rounds = 1 } = options;
    const o = { ...shared(context, command, options), share, folder, rounds };
    const result = await sessionsDisk(opener(context, command), o);
    report(context, result, result.rows.map(diskRow));
  },
  async compareJournal(context, command, options) {
    const { sessionsJournal } = await context.library.loadBench();
    const { folder, rounds = 5 } = options;
    const result = await sessionsJournal(opener(context, command), {
      ...shared(context, command, options),
      folder,
      rounds,
    });
    report(context, result);
  },
};

function shared(context: Context, command: Command, options: Options) {
  const { sessionLen } = given(command, engineOptions) as { sessionLen?: number };
  const onProgress = (what: string, done: number, total: number) => {
    if (done === total) context.terminal.note(`${what}: ${total} turns`);
  };
  return { ...loadOf(options), sessionLen: sessionLen ?? COMPARED_SESSION_LEN, onProgress };
}

/** Loads the model anew with other engine options. */
function opener(context: Context, command: Command): bench.OpenEngine {
  const { library, terminal, interrupt } = context;
  const model = command.getOptionValue('model') as string | undefined;
  const fixed = given(command, engineOptions, hubOptions);
  const onNote = (note: string) => terminal.note(note);
  return (own) => library.createEngine({ ...fixed, ...own, model, onNote, signal: interrupt.signal });
}

type Compared = Awaited<ReturnType<Bench['sessionsCompare']>>['rows'][number];
type DiskRow = Awaited<ReturnType<Bench['sessionsDisk']>>['rows'][number];
type Swept = Awaited<ReturnType<Bench['sessionsSweep']>>['points'][number];

const ms = (n: number) => n.toFixed(0);

function runColumns(run: bench.SessionsResult) {
  return {
    seconds: run.seconds.toFixed(1),
    'tok/s in': run.inputRate.toFixed(1),
    'tok/s out': run.outputRate.toFixed(1),
    hits: `${(100 * run.hitRate).toFixed(1)}%`,
    recomputed: run.recomputedTokens,
    'hit P50/95/99': `${ms(run.ttftHit.p50)}/${ms(run.ttftHit.p95)}/${ms(run.ttftHit.p99)}`,
    'miss P50/95/99': `${ms(run.ttftMiss.p50)}/${ms(run.ttftMiss.p95)}/${ms(run.ttftMiss.p99)}`,
    'turn 5+ P50': ms(run.ttftLate.p50),
  };
}

function compareRow(r: Compared): Record<string, unknown> {
  return {
    '': r.name,
    blocks: r.capacityBlocks,
    ...runColumns(r.run),
    'of stateless': r.ttftLateRatio.toFixed(3),
    speedup: r.speedup.toFixed(2),
    ceiling: r.ceiling.toFixed(2),
    share: r.shareOfCeiling.toFixed(3),
    'speedup CPU': r.speedupCpu.toFixed(2),
  };
}

function diskRow(r: DiskRow): Record<string, unknown> {
  return { name: r.name, ...runColumns(r.run), 'restored tokens': r.run.restoredTokens, speedup: r.speedup.toFixed(2) };
}

function sweepRow(p: Swept): Record<string, unknown> {
  return { '% of all': p.percent, blocks: p.blocks, ...runColumns(p.run), throughput: p.relative.toFixed(3) };
}

/** Different answers are a failure of the engine's promise, and of the command. */
function report(context: Context, result: { sameAnswers: boolean }, rows?: readonly Record<string, unknown>[]): void {
  if (context.terminal.json || !rows) show(context, result);
  else {
    showTable(context, rows);
    show(context, Object.fromEntries(Object.entries(result).filter(([, v]) => !Array.isArray(v))));
  }
  if (result.sameAnswers === false) context.exitCode = 1;
}
