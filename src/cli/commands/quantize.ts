/** longmind quantize: a GGUF file with fewer bits. */

import type { Command } from 'commander';
import { formatBytes, QUANTIZE_TYPES } from '../../index.js';
import { type Context, JSON_FLAG, newCommand } from '../context.js';

export function quantizeCommand(context: Context): Command {
  const { terminal, library, interrupt } = context;
  const command = newCommand('quantize', 'Write a GGUF file with fewer bits; llama.cpp reads it too', [
    'quantize model-F16.gguf model-Q4_K_M.gguf',
    'quantize model-BF16-00001-of-00003.gguf model-Q8_0.gguf --type Q8_0',
    'quantize model-F32.gguf model-Q5_K_M.gguf --type Q5_K_M --force',
  ]);
  command
    .argument('<IN>', 'a GGUF file with F32, F16 or BF16 weights (or any part of a split one); Q4 to Q8 with a loss')
    .argument('<OUT>', 'the file to write')
    .option('--type <TYPE>', `${QUANTIZE_TYPES.join(', ')}: what llama.cpp calls so`, 'Q4_K_M')
    .option('--force', 'replace OUT if it is there')
    .option('--threads <N>', 'threads (default: all processors)', Number)
    .option(...JSON_FLAG);
  return command.action(async (input: string, output: string, options: Record<string, unknown>) => {
    const result = await library.quantize(input, output, {
      type: options.type as string,
      force: options.force === true,
      threads: options.threads as number | undefined,
      onProgress: terminal.progress,
      onNote: (note) => terminal.note(note),
      signal: interrupt.signal,
    });
    terminal.endProgress();
    if (terminal.json) return terminal.value(result);
    const types = Object.entries(result.types).map(([type, n]) => `${n} ${type}`);
    terminal.line(`${result.path}  ${formatBytes(result.bytes)} of ${formatBytes(result.from)} (${types.join(', ')})`);
  });
}
