/** longmind chat: a conversation in the terminal, or one line a turn from a pipe. */
import { randomUUID } from 'node:crypto';
import { createInterface, type Interface } from 'node:readline';
import type { Command } from 'commander';
import {
  type ChatMessage,
  type Engine,
  formatBytes,
  type Generation,
  type GenerationResult,
  LongmindError,
  limitOptions,
  type RequestOptions,
  samplingOptions,
} from '../../index.js';
import { addModelOptions, type Context, loadEngine, newCommand } from '../context.js';
import { INTERRUPTED } from '../interrupt.js';
import { addTable, given } from '../options.js';
import { noteEngine } from '../report.js';
import type { Terminal } from '../terminal.js';

export function chatCommand(context: Context): Command {
  const command = newCommand('chat', 'Talk to a model in the terminal', [
    'chat',
    "chat --model ./model.gguf --system 'Answer in one sentence.'",
    "printf 'Hello!\\nWhat did I just say?\\n' | longmind chat",
  ]);
  command.option('--system <TEXT>', 'what the assistant should be like');
  command.option('--session <ID>', 'name of the conversation, to go on with it later (see --session-store)');
  addModelOptions(command, context.library.defaultModel);
  addTable(command, samplingOptions, 'Sampling:', ['logitBias', 'logprobs']);
  addTable(command, limitOptions, 'Sampling:', ['stopTokens', 'ignoreEos', 'minTokens']);
  return command.action(async () => {
    await using engine = await loadEngine(context, command);
    if (context.terminal.interactive) noteEngine(context.terminal, engine.info);
    const chat = new Chat(engine, context.terminal, {
      system: command.getOptionValue('system') as string | undefined,
      session: command.getOptionValue('session') as string | undefined,
      request: given(command, samplingOptions, limitOptions),
    });
    context.exitCode = await chat.run(context.interrupt.signal);
  });
}

export interface ChatSettings {
  system?: string;
  session?: string;
  request: RequestOptions;
}

const HELP = `/help            this text
/reset           start a new conversation
/session [NAME]  show the conversation, or go on with (or begin) another
/stats           what engine and cache did so far
/exit            leave (also Ctrl-D)
Ctrl-C stops an answer; at the prompt it leaves.`;

export class Chat {
  #session: string;
  #running: Generation | null = null;
  #input: Interface | null = null;
  #exitCode = 0;
  #left = false;
  #failed = false;

  constructor(
    private readonly engine: Engine,
    private readonly terminal: Terminal,
    private readonly settings: ChatSettings,
  ) {
    this.#session = settings.session ?? newName();
  }

  /** Runs until the input ends; resolves to the exit status. Ctrl-C comes from readline on a terminal, else as `signal`. */
  async run(signal: AbortSignal): Promise<number> {
    const { io, interactive } = this.terminal;
    const input = createInterface({ input: io.stdin, output: interactive ? io.stdout : undefined, prompt: '> ' });
    this.#input = input;
    input.on('SIGINT', () => this.#interrupt());
    const onSignal = () => this.#leave(INTERRUPTED);
    signal.addEventListener('abort', onSignal, { once: true });
    if (interactive) this.terminal.line(this.terminal.dim(`${this.engine.info.modelName}. /help lists commands.`));
    try {
      this.#ask();
      for await (const line of input) {
        if (line.startsWith('/')) await this.#command(line);
        else if (line.trim() !== '') await this.#turn(line);
        if (this.#left) break;
        this.#ask();
      }
    } finally {
      signal.removeEventListener('abort', onSignal);
      input.close();
      this.#input = null;
    }
    return this.#exitCode !== 0 ? this.#exitCode : this.#failed && !interactive ? 1 : 0;
  }

  #ask(): void {
    if (this.terminal.interactive) this.#input?.prompt();
  }

  /** First the answer stops; with nothing running, the chat ends. */
  #interrupt(): void {
    if (this.#running) this.#running.abort();
    else this.#leave(INTERRUPTED);
  }

  #leave(code: number): void {
    this.#exitCode = code;
    this.#left = true;
    this.#running?.abort();
    this.#input?.close();
  }

  async #turn(text: string): Promise<void> {
    const { terminal } = this;
    try {
      const messages: ChatMessage[] = [{ role: 'user', content: text }];
      const begun = await this.#known();
      if (!begun && this.settings.system !== undefined)
        messages.unshift({ role: 'system', content: this.settings.system });
      this.#running = this.engine.chat({
        messages,
        sessionId: this.#session,
        sessionAppend: true,
        ...this.settings.request,
      });
      for await (const event of this.#running) terminal.out(event.text);
      const result = await this.#running.result();
      terminal.line();
      if (terminal.interactive) terminal.line(terminal.dim(turnLine(result)));
    } catch (error) {
      if (!(error instanceof LongmindError)) throw error;
      this.#failed = true;
      terminal.line();
      terminal.note(`longmind: ${error.message}`);
    } finally {
      this.#running = null;
    }
  }

  /** Whether this conversation has begun. */
  async #known(): Promise<boolean> {
    try {
      return (await this.engine.sessions.get(this.#session)).tokens > 0;
    } catch (error) {
      if (error instanceof LongmindError && error.code === 'session_not_found') return false;
      throw error;
    }
  }

  async #command(line: string): Promise<void> {
    const { terminal } = this;
    const [name, argument] = line.slice(1).trim().split(/\s+/, 2);
    switch (name) {
      case 'help':
        terminal.line(HELP);
        break;
      case 'reset':
        if (await this.#known()) await this.engine.sessions.delete(this.#session);
        this.#session = newName();
        terminal.line(terminal.dim('a new conversation'));
        break;
      case 'session':
        if (argument) this.#session = argument;
        terminal.line(terminal.dim(await this.#sessionLine()));
        break;
      case 'stats':
        terminal.line(terminal.dim(await this.#statsLines()));
        break;
      case 'exit':
      case 'quit':
        this.#leave(0);
        break;
      default:
        terminal.line(`there is no command /${name}; /help lists them (a message may start with a space and then /)`);
    }
  }

  async #sessionLine(): Promise<string> {
    if (!(await this.#known())) return `session ${this.#session}: new`;
    const s = await this.engine.sessions.get(this.#session);
    return `session ${s.id}: ${s.tokens} tokens, ${s.cachedTokens} of them cached (${s.state})`;
  }

  async #statsLines(): Promise<string> {
    const s = await this.engine.stats();
    const { blocks, hits, partialHits, misses } = s.cache;
    const m = this.engine.info.memory;
    return [
      `requests  ${s.requests.finished} finished, ${s.requests.aborted} aborted, ${s.requests.failed} failed`,
      `tokens    ${s.tokens.prompt} in (${s.tokens.cached} cached), ${s.tokens.generated} out, ${s.tokens.recomputed} recomputed`,
      `cache     ${hits} hits, ${partialHits} partial, ${misses} misses, ${s.cache.blocksEvicted} blocks evicted`,
      `blocks    ${blocks.active} active, ${blocks.cached} cached, ${blocks.free} free of ${blocks.total} (${formatBytes(m.blockBytes)} each)`,
      `batch     ${s.steps} steps, last ${s.lastStepMs.toFixed(1)} ms, ${s.preemptions} preemptions`,
    ].join('\n');
  }
}

const newName = (): string => `chat-${randomUUID().slice(0, 8)}`;

function turnLine(r: GenerationResult): string {
  const rate = r.timings.perToken > 0 ? `${(1000 / r.timings.perToken).toFixed(1)} tokens/s · ` : '';
  const end = r.finishReason === 'stop' ? '' : r.finishReason === 'abort' ? ' · stopped' : ' · cut at the token limit';
  return (
    `[${rate}first after ${r.timings.ttft.toFixed(0)} ms · ${r.usage.promptTokens} tokens in, ` +
    `${r.usage.cachedTokens} cached · ${r.usage.completionTokens} out${end}]`
  );
}
