/** longmind bench: measurements that anybody can repeat. Each prints JSON with --json. */
import { Command, InvalidArgumentError } from 'commander';
import type { bench } from '../../index.js';
import { engineOptions } from '../../index.js';
import { addModelOptions, type Context, JSON_FLAG, loadEngine, newCommand } from '../context.js';
import type { Bench } from '../library.js';

export function benchCommand(context: Context): Command {
  const command = new Command('bench').description('Measure: traces, cache, sessions, recall');
  const { trace, cache } = context.library.bench;
  if (trace) command.addCommand(traceCommand(context, trace));
  if (cache) command.addCommand(cacheCommand(context, cache));
  command.addCommand(sessionsCommand(context));
  command.addCommand(recallCommand(context));
  return command;
}

/** A measurement takes a while; its progress is shown in whole units. */
function counter(context: Context, what: string): (done: number, total: number) => void {
  let last = -1;
  return (done, total) => {
    const percent = Math.floor((100 * done) / total);
    if (percent === last || (percent % 10 !== 0 && done < total)) return;
    last = percent;
    context.terminal.note(`${what}: ${done} of ${total}`);
  };
}

function traceCommand(context: Context, trace: Required<Bench>['trace']): Command {
  const command = newCommand('trace', 'Replay a request trace through the KV cache manager (no model)', [
    'bench trace mooncake_conversation_trace.jsonl --policy lru --capacity-blocks 5000',
    'bench trace trace.jsonl --policy adaptive --capacity-blocks 5000 --json',
  ]);
  command.argument('<FILE>', 'Mooncake or coding-session format, JSON lines');
  command.option('--policy <NAME>', engineOptions.cachePolicy.help, oneOf(['lru', 'adaptive']), 'lru');
  command.option('--capacity-blocks <N>', 'blocks of the cache', integer(1));
  command.option('--capacity-percent <X>', "the same as a share of the trace's different blocks", number(0));
  command.option('--window-hours <X>', 'session traces: sessions start at random within this time', number(0), 24);
  command.option('--seed <N>', 'session traces: the same seed gives the same starts', integer(0), 1);
  command.option('--no-bound', "leave out Belady's bound, which takes longest");
  command.option(...JSON_FLAG);
  return command.action(async (file: string, options: Omit<bench.TraceBenchOptions, 'file'>) => {
    const { policy, capacityBlocks, capacityPercent, windowHours, seed, bound } = options;
    if ((capacityBlocks === undefined) === (capacityPercent === undefined))
      command.error('error: give one of --capacity-blocks <N> and --capacity-percent <X>');
    letSignalsEnd(context);
    show(context, await trace({ file, policy, capacityBlocks, capacityPercent, windowHours, seed, bound }));
  });
}

/** A measurement that never pauses cannot be asked to stop: Ctrl-C ends the process as it does by default. */
const letSignalsEnd = (context: Context): void => context.interrupt.dispose();

function cacheCommand(context: Context, cache: Required<Bench>['cache']): Command {
  const command = newCommand('cache', 'Cost of the KV cache manager per block (no model)', [
    'bench cache',
    'bench cache --blocks 1000,1000000 --json',
  ]);
  command.option('--blocks <N,…>', 'sizes of the pool', integers(1), [1e3, 1e4, 1e5, 1e6]);
  command.option(...JSON_FLAG);
  return command.action(async (options: { blocks: number[] }) => {
    letSignalsEnd(context);
    show(context, await cache({ blocks: options.blocks }));
  });
}

function sessionsCommand(context: Context): Command {
  const command = newCommand('sessions', 'Many conversations of many turns: throughput and time to the first token', [
    'bench sessions --sessions 32 --turns 6 --cache-max-entry-count 200 --json',
    'bench sessions --mode history --no-enable-prefix-caching',
  ]);
  command.option('--sessions <N>', 'conversations', integer(1), 16);
  command.option('--turns <N>', 'turns of each on average', integer(1), 6);
  command.option('--draw <HOW>', 'who speaks next', oneOf(['zipf', 'uniform', 'round-robin']), 'zipf');
  command.option('--clients <N>', 'turns in flight at a time', integer(1), 8);
  command.option('--rate <X>', 'Poisson arrivals a second instead of --clients', number(0), 0);
  command.option('--said <MIN,MAX>', 'tokens that a user says', integers(1), [20, 80]);
  command.option('--answered <N>', 'tokens answered', integer(1), 32);
  command.option(
    '--mode <HOW>',
    'a session and the new turn, or the whole history',
    oneOf(['session', 'history']),
    'session',
  );
  command.option('--seed <N>', 'the same seed gives the same conversations', integer(0), 1);
  command.option(...JSON_FLAG);
  addModelOptions(command, context.library.defaultModel);
  return command.action(async () => {
    await using engine = await loadEngine(context, command);
    letSignalsEnd(context);
    const { sessions, turns, draw, clients, rate, said, answered, mode, seed } = command.opts<bench.SessionsOptions>();
    const options = { sessions, turns, draw, clients, rate, said, answered, mode, seed };
    const onProgress = counter(context, 'turns');
    show(context, await context.library.bench.sessions(engine, { ...options, onProgress }));
  });
}

function recallCommand(context: Context): Command {
  const command = newCommand('recall', 'Does a model remember? Recall by distance in tokens', [
    'bench recall --model memo',
    'bench recall --model memo --sessions 50 --cache-max-entry-count 305 --quant-policy 8 --json',
    'bench recall --model memo --evict --limit 5 --cache-max-entry-count 64',
  ]);
  command.option(
    '--file <FILE>',
    'JSON lines {"id", "turns": [{"user", "expect"?, "distance"?}]} (default: the held-out ones that come with memo)',
    '',
  );
  command.option('--sessions <N>', 'conversations at a time', integer(1), 1);
  command.option('--limit <N>', 'conversations in all (0 = all of the file)', integer(0), 0);
  command.option('--evict', 'fill the KV cache with other tokens between turns', false);
  command.option('--max-tokens <N>', 'tokens of an answer', integer(1), 24);
  command.option(...JSON_FLAG);
  addModelOptions(command, context.library.defaultModel);
  return command.action(async () => {
    await using engine = await loadEngine(context, command);
    letSignalsEnd(context);
    const { file, sessions, limit, evict, maxTokens } = command.opts<bench.RecallOptions>();
    const onProgress = counter(context, 'conversations');
    show(context, await context.library.bench.recall(engine, { file, sessions, limit, evict, maxTokens, onProgress }));
  });
}

function show(context: Context, result: object): void {
  if (context.terminal.json) context.terminal.value(result);
  else for (const [name, value] of Object.entries(result)) context.terminal.line(`${name.padEnd(20)} ${cell(value)}`);
}

function cell(value: unknown): string {
  if (Array.isArray(value)) return value.map((v) => `\n  ${cell(v)}`).join('');
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : value.toPrecision(4);
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .map(([k, v]) => `${k} ${cell(v)}`)
    .join(', ');
}

function number(min: number): (raw: string) => number {
  return (raw) => {
    const n = Number(raw);
    if (raw.trim() === '' || !(n >= min)) throw new InvalidArgumentError(`It must be a number of at least ${min}.`);
    return n;
  };
}

function integer(min: number): (raw: string) => number {
  return (raw) => {
    const n = Number(raw);
    if (!Number.isSafeInteger(n) || n < min || raw.trim() === '')
      throw new InvalidArgumentError(`It must be an integer of at least ${min}.`);
    return n;
  };
}

const integers = (min: number) => (raw: string) => raw.split(',').map(integer(min));

function oneOf(choices: string[]): (raw: string) => string {
  return (raw) => {
    if (!choices.includes(raw)) throw new InvalidArgumentError(`It must be one of ${choices.join(', ')}.`);
    return raw;
  };
}
