/** The chat itself: messages and commands in, answers out. */
import {
  type Engine,
  formatBytes,
  type Generation,
  type GenerationResult,
  LongmindError,
  type RequestOptions,
} from '../../index.js';
import { INTERRUPTED } from '../interrupt.js';
import type { Terminal } from '../terminal.js';
import { Conversation } from './conversation.js';
import { History, historyFile } from './history.js';
import { ChatInput } from './input.js';
import { set } from './settings.js';
import { Waiting } from './waiting.js';

interface ChatSettings {
  system?: string;
  session?: string;
  request: RequestOptions;
  /** Keep what is typed for the next chat. */
  history: boolean;
}

const HELP = `/help              this text
/system [TEXT]     show or set what the assistant should be like ('/system -' for the template's own)
/set [NAME VALUE]  show or set sampling and limits: /set temperature 0, /set seed default
/regenerate        another answer to the last question
/save FILE         write the conversation to a file
/load FILE         go on with one that was saved
/reset             start a new conversation
/session [NAME]    show the conversation, or go on with (or begin) another
/stats             what engine and cache did so far
/exit              leave (also Ctrl-D)
Several lines: paste them, end a line with \\, or begin and end with """.
Ctrl-C stops an answer or clears what was typed; with nothing typed it leaves.`;

const FILE_MISSING = 'name a file';

export class Chat {
  readonly #conversation: Conversation;
  #running: Generation | null = null;
  #input: ChatInput | null = null;
  #exitCode = 0;
  #left = false;
  #failed = false;

  constructor(
    private readonly engine: Engine,
    private readonly terminal: Terminal,
    private readonly settings: ChatSettings,
  ) {
    this.#conversation = new Conversation(engine, settings.session, settings.system);
  }

  /** Runs until the input ends; resolves to the exit status. Ctrl-C comes from readline on a terminal, else as `signal`. */
  async run(signal: AbortSignal): Promise<number> {
    const { io, interactive } = this.terminal;
    const history = new History(interactive && this.settings.history ? historyFile(io.env) : null);
    const input = new ChatInput(io, interactive, history, () => this.#interrupt());
    this.#input = input;
    const onSignal = () => this.#leave(INTERRUPTED);
    signal.addEventListener('abort', onSignal, { once: true });
    if (interactive) this.terminal.line(this.terminal.dim(`${this.engine.info.modelName}. /help lists commands.`));
    try {
      input.ask();
      for await (const message of input.messages()) {
        await this.#take(message);
        if (this.#left) break;
        input.ask();
      }
      // Ctrl-D leaves the cursor behind the prompt
      if (interactive && !this.#left) this.terminal.line();
    } finally {
      signal.removeEventListener('abort', onSignal);
      input.close();
      this.#input = null;
    }
    return this.#exitCode !== 0 ? this.#exitCode : this.#failed && !interactive ? 1 : 0;
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

  /** A message or a command; what is wrong with it is said, and the chat goes on. */
  async #take(message: string): Promise<void> {
    const { terminal } = this;
    try {
      // what spans lines is said, however it begins
      if (message.startsWith('/') && !message.includes('\n')) await this.#command(message);
      else if (message.trim() !== '') await this.#turn(message);
    } catch (error) {
      if (!(error instanceof LongmindError)) throw error;
      this.#failed = true;
      terminal.note(`longmind: ${error.message}`);
    }
  }

  async #turn(text: string): Promise<void> {
    const { terminal } = this;
    const { generation, finish } = await this.#conversation.say(text, this.settings.request);
    this.#running = generation;
    const waiting = new Waiting(terminal, () => this.#conversation.info());
    let thought = false;
    try {
      for await (const event of generation) {
        if (event.text !== '' || event.reasoning) waiting.end();
        // a pipe gets the answer alone
        if (event.reasoning && terminal.interactive) {
          terminal.out(terminal.dim(event.reasoning));
          thought = true;
        }
        if (event.text !== '' && thought) {
          terminal.out('\n\n');
          thought = false;
        }
        terminal.out(event.text);
      }
      const result = await generation.result();
      finish(result.text);
      waiting.end();
      terminal.line();
      if (terminal.interactive) terminal.line(terminal.dim(turnLine(result)));
    } catch (error) {
      waiting.end();
      terminal.line();
      throw error;
    } finally {
      this.#running = null;
    }
  }

  async #command(line: string): Promise<void> {
    const { terminal } = this;
    const [, name, argument] = /^\/(\S*)\s*(.*?)\s*$/s.exec(line)!;
    const say = (text: string) => terminal.line(terminal.dim(text));
    switch (name) {
      case 'help':
        return terminal.line(HELP);
      case 'system':
        return say(this.#system(argument!));
      case 'set':
        return say(set(this.settings.request, argument!));
      case 'regenerate':
        return this.#regenerate();
      case 'save':
        return say(argument ? `${await this.#conversation.save(argument)} turns in ${argument}` : FILE_MISSING);
      case 'load':
        return argument ? this.#load(argument) : say(FILE_MISSING);
      case 'reset':
        await this.#conversation.reset();
        return say('a new conversation');
      case 'session':
        if (argument) this.#conversation.open(argument);
        return say(await this.#sessionLine());
      case 'stats':
        return say(await this.#statsLines());
      case 'exit':
      case 'quit':
        return this.#leave(0);
      default:
        terminal.line(`there is no command /${name}; /help lists them (a message may start with a space and then /)`);
    }
  }

  #system(text: string): string {
    const { system } = this.#conversation;
    if (text === '') return system ?? "the chat template's own";
    const known = this.#conversation.setSystem(text === '-' ? null : text);
    return known ? 'from the next turn on' : 'from the next new conversation on (/reset)';
  }

  async #regenerate(): Promise<void> {
    const question = this.#conversation.takeBack();
    if (question === null) this.terminal.line(this.terminal.dim('nothing was asked here yet'));
    else await this.#turn(question);
  }

  async #load(file: string): Promise<void> {
    const { terminal } = this;
    for (const { role, content } of await this.#conversation.load(file))
      terminal.line(role === 'user' ? terminal.bold(`> ${content}`) : content);
  }

  async #sessionLine(): Promise<string> {
    const s = await this.#conversation.info();
    if (!s) return `session ${this.#conversation.id}: new`;
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

function turnLine(r: GenerationResult): string {
  const rate = r.timings.perToken > 0 ? `${(1000 / r.timings.perToken).toFixed(1)} tokens/s · ` : '';
  const end = r.finishReason === 'stop' ? '' : r.finishReason === 'abort' ? ' · stopped' : ' · cut at the token limit';
  return (
    `[${rate}first after ${r.timings.ttft.toFixed(0)} ms · ${r.usage.promptTokens} tokens in, ` +
    `${r.usage.cachedTokens} cached · ${r.usage.completionTokens} out${end}]`
  );
}
