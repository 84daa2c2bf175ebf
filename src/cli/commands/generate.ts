/** longmind generate: one prompt, one answer. */
import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import {
  type ChatMessage,
  type Engine,
  errors,
  type Generation,
  type GenerationResult,
  limitOptions,
  samplingOptions,
} from '../../index.js';
import {
  ADAPTER_FLAG,
  adapterOf,
  addModelOptions,
  type Context,
  JSON_FLAG,
  loadEngine,
  newCommand,
} from '../context.js';
import { addTable, given } from '../options.js';

export function generateCommand(context: Context): Command {
  const command = newCommand('generate', 'Continue a text, or answer one question with --chat', [
    "generate 'The capital of France is' --max-tokens 8 --temperature 0",
    "generate --chat --prompt 'Name three rivers.' --json",
    'generate --max-tokens 64 < story.txt',
  ]);
  command.argument('[PROMPT]', 'the same as --prompt');
  command.option('-p, --prompt <TEXT>', "the text to continue (default, and '-': what comes from stdin)");
  command.option('--chat', 'apply the chat template: the prompt is what a user says');
  command.option('--system <TEXT>', 'with --chat: what the assistant should be like');
  command.option(...ADAPTER_FLAG);
  command.option(...JSON_FLAG);
  addModelOptions(command, context.library.defaultModel);
  addTable(command, samplingOptions, 'Sampling:', ['logitBias']);
  addTable(command, limitOptions, 'Sampling:');
  return command.action(() => generate(context, command));
}

async function generate(context: Context, command: Command): Promise<void> {
  const { terminal, interrupt } = context;
  const prompt = await promptOf(context, command);
  await using engine = await loadEngine(context, command);
  engine.onProblem((problem) => terminal.note(problem));
  const generation = start(engine, command, prompt, interrupt.signal);
  if (!terminal.json) {
    for await (const event of generation) terminal.out(event.text);
    terminal.line();
  }
  const result = await generation.result();
  if (interrupt.interrupted) {
    context.exitCode = interrupt.exitCode;
    return;
  }
  if (terminal.json) terminal.value(resultJson(engine, result));
  else terminal.note(terminal.dim(summary(engine, result)));
}

async function promptOf(context: Context, command: Command): Promise<string> {
  const option = command.getOptionValue('prompt') as string | undefined;
  const [argument] = command.args;
  if (option !== undefined && argument !== undefined)
    command.error('error: the prompt is given twice, as an argument and with --prompt');
  const given = option ?? argument;
  const { stdin } = context.terminal.io;
  if (given !== undefined && given !== '-') return given;
  // not a requiredOption: a misspelt option should be named first
  const missing =
    "error: the prompt is missing: neither an argument nor '--prompt <TEXT>', and nothing came from stdin";
  // who sits at a terminal has to ask for it with '-'
  if (given === undefined && stdin.isTTY) command.error(missing);
  const piped = (await readAll(stdin)).replace(/\r?\n$/, '');
  if (given === undefined && piped === '') command.error(missing);
  return piped;
}

function start(engine: Engine, command: Command, prompt: string, signal: AbortSignal): Generation {
  const options = { ...given(command, samplingOptions, limitOptions), ...adapterOf(command), signal };
  const system = command.getOptionValue('system') as string | undefined;
  if (!command.getOptionValue('chat')) {
    if (system !== undefined) throw errors.invalidOption('system', system, 'given together with --chat');
    return engine.complete({ prompt, ...options });
  }
  const messages: ChatMessage[] = [{ role: 'user', content: prompt }];
  if (system !== undefined) messages.unshift({ role: 'system', content: system });
  return engine.chat({ messages, ...options });
}

function resultJson(engine: Engine, r: GenerationResult): Record<string, unknown> {
  return {
    model: engine.info.modelName,
    text: r.text,
    reasoning: r.reasoning,
    tokenIds: r.tokenIds,
    finishReason: r.finishReason,
    stopString: r.stopString,
    usage: r.usage,
    timings: {
      loadMs: engine.info.loadMs,
      ttftMs: r.timings.ttft,
      perTokenMs: r.timings.perToken,
      totalMs: r.timings.total,
    },
    ...(r.logprobs ? { logprobs: r.logprobs } : {}),
  };
}

function summary(engine: Engine, r: GenerationResult): string {
  const rate = r.timings.perToken > 0 ? `${(1000 / r.timings.perToken).toFixed(1)} tokens/s, ` : '';
  return (
    `[${r.usage.promptTokens} + ${r.usage.completionTokens} tokens, ${rate}first after ${r.timings.ttft.toFixed(0)} ms, ` +
    `loaded in ${engine.info.loadMs.toFixed(0)} ms, ended by ${r.finishReason}]`
  );
}
