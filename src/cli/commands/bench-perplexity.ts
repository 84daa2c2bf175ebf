/** longmind bench perplexity: what the bits of the KV cache cost in quality. */
import type { Command } from 'commander';
import type * as bench from '../../bench/index.js';
import { engineOptions, hubOptions } from '../../index.js';
import { type Context, JSON_FLAG, newCommand, watch } from '../context.js';
import { addTable, given } from '../options.js';
import { counter, integer, letSignalsEnd, show, showTable, someOf } from './bench-values.js';

export function perplexityCommand(context: Context): Command {
  const command = newCommand('perplexity', 'Perplexity of a text with KV caches of 16, 8 and 4 bits', [
    'bench perplexity',
    'bench perplexity --file book.txt --window 2048 --json',
  ]);
  command.option('--file <TEXT>', "a text file (default: this project's documentation)", '');
  command.option('--window <N>', 'tokens of each window', integer(2), 1024);
  command.option('--limit <N>', 'tokens of the text at most (0 = all)', integer(0), 0);
  command.option('--bits <N,…>', 'bits of the KV cache', someOf([16, 8, 4]), [16, 8, 4]);
  command.option('-m, --model <REF>', 'as for the other commands');
  addTable(command, hubOptions, 'Model:');
  const { threads, isa } = engineOptions;
  addTable(command, { threads, isa }, 'Engine:');
  command.option(...JSON_FLAG);
  return command.action(async () => {
    const { library, terminal } = context;
    const options = command.opts<Omit<bench.PerplexityOptions, 'model' | 'onProgress'> & { model?: string }>();
    const found = await library.resolveModel(options.model, {
      ...given(command, hubOptions),
      ...watch(context),
    });
    letSignalsEnd(context);
    const { file, window, limit, bits } = options;
    const onProgress = counter(context, 'windows');
    const engine = given(command, { threads, isa });
    const { perplexity } = await library.loadBench();
    const result = await perplexity({
      file,
      window,
      limit,
      bits,
      ...engine,
      model: found.path,
      onProgress,
    });
    if (terminal.json) return show(context, result);
    const { rows, ...rest } = result;
    showTable(
      context,
      rows.map((r) => ({ ...r })),
    );
    show(context, rest);
  });
}
