/** longmind chat: a conversation in the terminal, or one line a turn from a pipe. */
import type { Command } from 'commander';
import { limitOptions, samplingOptions } from '../../index.js';
import { Chat } from '../chat/chat.js';
import { LEFT_OUT } from '../chat/settings.js';
import {
  ADAPTER_FLAG,
  adapterOf,
  addModelOptions,
  type Context,
  loadEngine,
  newCommand,
  VERBOSE_FLAG,
} from '../context.js';
import { addTable, given } from '../options.js';
import { engineLines } from '../report.js';

export function chatCommand(context: Context): Command {
  const { terminal } = context;
  const command = newCommand('chat', 'Talk to a model in the terminal', [
    'chat',
    "chat --model ./model.gguf --system 'Answer in one sentence.'",
    "printf 'Hello!\\nWhat did I just say?\\n' | longmind chat",
  ]);
  command.option('--system <TEXT>', 'what the assistant should be like');
  command.option(...ADAPTER_FLAG);
  command.option('--session <ID>', 'name of the conversation, to go on with it later (see --session-store)');
  command.option('--no-history', 'do not keep what is typed for the arrow keys of the next chat');
  command.option(...VERBOSE_FLAG);
  addModelOptions(command, context.library.defaultModel);
  addTable(command, samplingOptions, 'Sampling:', LEFT_OUT);
  addTable(command, limitOptions, 'Sampling:', LEFT_OUT);
  return command.action(async () => {
    await using engine = await loadEngine(context, command);
    engine.onProblem((problem) => terminal.note(problem));
    if (command.getOptionValue('verbose')) terminal.note(engineLines(engine.info, true));
    const chat = new Chat(engine, terminal, {
      system: command.getOptionValue('system') as string | undefined,
      session: command.getOptionValue('session') as string | undefined,
      request: {
        ...given(command, samplingOptions, limitOptions),
        ...adapterOf(command),
      },
      history: command.getOptionValue('history') as boolean,
    });
    context.exitCode = await chat.run(context.interrupt.signal);
  });
}
