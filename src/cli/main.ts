/** The command line: assembles the commands, turns failures into one clear line and an exit status. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { LongmindError } from '../index.js';
import { benchCommand } from './commands/bench.js';
import { chatCommand } from './commands/chat.js';
import { doctorCommand } from './commands/doctor.js';
import { generateCommand } from './commands/generate.js';
import { inspectCommand, listCommand, pullCommand, rmCommand } from './commands/models.js';
import { convertCommand, quantizeCommand } from './commands/quantize.js';
import { serveCommand } from './commands/serve.js';
import type { Context } from './context.js';
import { Interrupt } from './interrupt.js';
import type { Library, ServerModule } from './library.js';
import { type Io, Terminal } from './terminal.js';

/** Exit statuses; INTERRUPTED (130) is in interrupt.ts. */
const OK = 0;
const FAILED = 1;
const USAGE = 2;

/** Runs one command line (without node and script name); resolves to the exit status. */
export async function main(
  argv: readonly string[],
  library: Library,
  loadServer: () => Promise<ServerModule>,
  io: Io = process,
): Promise<number> {
  const terminal = new Terminal(io, argv.includes('--json'));
  const interrupt = new Interrupt(io.env.npm_lifecycle_event !== undefined);
  const context: Context = { terminal, library, loadServer, interrupt, version: packageVersion(), exitCode: OK };
  // `longmind … | head` closes our stdout: nothing is left to say
  const onPipe = (e: NodeJS.ErrnoException) => {
    if (e.code === 'EPIPE') process.exit(FAILED);
    throw e;
  };
  io.stdout.on('error', onPipe);
  const root = program(context);
  try {
    await root.parseAsync([...argv], { from: 'user' });
    return context.exitCode;
  } catch (error) {
    terminal.endProgress();
    if (interrupt.interrupted && !(error instanceof CommanderError)) return interrupt.exitCode;
    return report(
      terminal,
      error,
      root.commands.find((c) => c.name() === argv[0]),
    );
  } finally {
    interrupt.dispose();
    // or what is on its way finds nobody who knows what a closed pipe means
    await new Promise<void>((done) => io.stdout.write('', () => done()));
    io.stdout.off('error', onPipe);
  }
}

function program(context: Context): Command {
  const { terminal } = context;
  const root = new Command('longmind')
    .description('Many long conversations with an LLM on one machine with little memory.')
    .version(context.version, '-v, --version')
    .addHelpText('after', "\nStart with 'longmind chat' or 'longmind serve'; each command has --help with examples.");
  const model = [pullCommand, listCommand, rmCommand, inspectCommand];
  for (const make of [
    chatCommand,
    serveCommand,
    generateCommand,
    ...model,
    quantizeCommand,
    convertCommand,
    benchCommand,
    doctorCommand,
  ])
    root.addCommand(make(context));
  for (const command of [root, ...root.commands, ...root.commands.flatMap((c) => c.commands)]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => terminal.out(text),
      // errors are reported once, by main; help that was asked for by mistake goes to stderr
      writeErr: (text) => void (terminal.json || text.startsWith('error:') || terminal.io.stderr.write(text)),
    });
  }
  return root;
}

function report(terminal: Terminal, error: unknown, command?: Command): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return OK;
    // no command at all: the help text has been shown
    if (error.code !== 'commander.help') {
      const message = error.message.replace(/^error: /, '').replace(/\n\(?(.*?)\)?$/s, ' ($1)');
      fail(terminal, 'usage', longerOption(message, command));
    }
    return USAGE;
  }
  if (error instanceof LongmindError) {
    fail(terminal, error.code, error.message);
    return ['invalid_option', 'unknown_option', 'remote_without_key'].includes(error.code) ? USAGE : FAILED;
  }
  fail(terminal, 'internal_error', `a bug: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  return FAILED;
}

/** '--port' is not spelt much like '--server-port', so commander does not think of it, or of another. */
function longerOption(message: string, command?: Command): string {
  const [, said, name] = /^(unknown option '--([\w-]+)[^']*')/.exec(message) ?? [];
  const option = name && command?.options.find((o) => o.long?.endsWith(`-${name}`));
  return option ? `${said} (Did you mean ${option.long}?)` : message;
}

function fail(terminal: Terminal, code: string, message: string): void {
  if (terminal.json) terminal.value({ error: { code, message } });
  else terminal.io.stderr.write(`longmind: ${message}\n`);
}

function packageVersion(): string {
  const file = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
