/** longmind quantize, convert: GGUF files that are written. */
import type { Command } from 'commander';
import { formatBytes, QUANTIZE_TYPES, type Quantized, type WriteOptions } from '../../index.js';
import { type Context, JSON_FLAG, newCommand } from '../context.js';

export function quantizeCommand(context: Context): Command {
  const command = newCommand('quantize', 'Write a GGUF file with fewer bits; llama.cpp reads it too', [
    'quantize model-F16.gguf model-Q4_K_M.gguf',
    'quantize model-BF16-00001-of-00003.gguf model-Q8_0.gguf --type Q8_0',
    'quantize ./folder model-Q5_K_M.gguf --type Q5_K_M --force',
  ]);
  command
    .argument('<IN>', 'a GGUF file (any part of a split one) or a folder of safetensors, best in F32, F16 or BF16')
    .argument('<OUT>', 'the file to write')
    .option('--type <TYPE>', `${QUANTIZE_TYPES.join(', ')}: what llama.cpp calls so`, 'Q4_K_M');
  return writes(context, command, (input, output, options) =>
    context.library.quantize(input, output, { ...options, type: command.getOptionValue('type') as string }),
  );
}

export function convertCommand(context: Context): Command {
  const command = newCommand('convert', 'Write a folder of safetensors as a GGUF file, weights as they are', [
    'convert ./folder model.gguf',
    'convert ./folder model.gguf --force --json',
  ]);
  command.argument('<FOLDER>', 'config.json, tokenizer.json, *.safetensors').argument('<OUT>', 'the file to write');
  return writes(context, command, (input, output, options) => context.library.convert(input, output, options));
}

type Write = (input: string, output: string, options: WriteOptions) => Promise<Quantized>;

function writes({ terminal, interrupt }: Context, command: Command, write: Write): Command {
  command
    .option('--force', 'replace OUT if it is there')
    .option('--threads <N>', 'threads (default: all processors)', Number)
    .option(...JSON_FLAG);
  return command.action(async (input: string, output: string, options: Record<string, unknown>) => {
    const result = await write(input, output, {
      force: options.force === true,
      threads: options.threads as number | undefined,
      onProgress: terminal.progress,
      onNote: (note) => terminal.note(note),
      signal: interrupt.signal,
    });
    terminal.endProgress();
    if (terminal.json) return terminal.value(result);
    const types = Object.entries(result.types).map(([type, n]) => `${n} ${type}`);
    terminal.line(
      `${result.path}  ${formatBytes(result.bytes)}, from ${formatBytes(result.from)} (${types.join(', ')})`,
    );
  });
}
