/** longmind bench: measurements that anybody can repeat. Each prints JSON with --json. */
import { Command } from 'commander';
import type * as bench from '../../bench/index.js';
import { engineOptions } from '../../index.js';
import { addModelOptions, type Context, JSON_FLAG, loadEngine, newCommand } from '../context.js';
import { perplexityCommand } from './bench-perplexity.js';
import { sessionsCommand } from './bench-sessions.js';
import { counter, integer, integers, letSignalsEnd, number, oneOf, show } from './bench-values.js';

export function benchCommand(context: Context): Command {
  const command = new Command('bench').description('Measure: traces, cache, sessions, recall, perplexity');
  command.addCommand(traceCommand(context));
  command.addCommand(cacheCommand(context));
  command.addCommand(sessionsCommand(context));
  command.addCommand(recallCommand(context));
  command.addCommand(perplexityCommand(context));
  return command;
}

function traceCommand(context: Context): Command {
  const command = newCommand('trace', 'Replay a request trace through the KV cache manager (no model)', [
    'bench trace mooncake_conversation_trace.jsonl --policy lru --capacity-blocks 5000',
    'bench trace trace.jsonl --capacity-percent 3 --json',
  ]);
  command.argument('<FILE>', 'Mooncake or coding-session format, JSON lines');
  command.option('--policy <NAME>', engineOptions.cachePolicy.help, oneOf(['lru']), 'lru');
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
    const { trace } = await context.library.loadBench();
    show(context, await trace({ file, policy, capacityBlocks, capacityPercent, windowHours, seed, bound }));
  });
}

function cacheCommand(context: Context): Command {
  const command = newCommand('cache', 'Cost of the KV cache manager per block (no model)', [
    'bench cache',
    'bench cache --blocks 1000,1000000 --json',
  ]);
  command.option('--blocks <N,…>', 'sizes of the pool', integers(1), [1e3, 1e4, 1e5, 1e6]);
  command.option(...JSON_FLAG);
  return command.action(async (options: { blocks: number[] }) => {
    letSignalsEnd(context);
    const { cache } = await context.library.loadBench();
    show(context, await cache({ blocks: options.blocks }));
  });
}

function recallCommand(context: Context): Command {
  const command = newCommand('recall', 'Does a model remember? Recall by distance in tokens', [
    'bench recall --model memo',
    'bench recall --model memo --sessions 50 --cache-max-entry-count 305 --quant-policy 8 --json',
    'bench recall --model memo --evict --sessions 8 --limit 8 --cache-max-entry-count 64',
  ]);
  command.option(
    '--file <FILE>',
    'JSON lines {"id", "turns": [{"user", "expect"?, "distance"?}]} (default: the held-out ones that come with memo)',
    '',
  );
  command.option('--sessions <N>', 'conversations at a time', integer(1), 1);
  command.option('--limit <N>', 'conversations in all (0 = all of the file)', integer(0), 0);
  command.option('--turns <N>', 'turns of each conversation (0 = all)', integer(0), 0);
  command.option('--evict', 'fill the KV cache with other tokens between turns', false);
  command.option('--max-tokens <N>', 'tokens of an answer', integer(1), 24);
  command.option(...JSON_FLAG);
  addModelOptions(command, context.library.defaultModel);
  return command.action(async () => {
    await using engine = await loadEngine(context, command);
    letSignalsEnd(context);
    const { file, sessions, limit, turns, evict, maxTokens } = command.opts<bench.RecallOptions>();
    const options = { file, sessions, limit, turns, evict, maxTokens };
    const onProgress = counter(context, 'conversations');
    const { recall } = await context.library.loadBench();
    show(context, await recall(engine, { ...options, onProgress }));
  });
}
