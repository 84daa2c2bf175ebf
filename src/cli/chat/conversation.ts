/**
 * One conversation of a chat: a session of the engine, and its texts as far as they were said here. As a rule only what is
 * new goes to the engine; the whole history goes where something before it changed, and is matched with what is kept.
 */
import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import {
  type ChatMessage,
  type Engine,
  errors,
  type Generation,
  LongmindError,
  type RequestOptions,
  type SessionInfo,
} from '../../index.js';

/** What /save writes. */
interface Saved {
  longmind: 'chat';
  model: string;
  messages: ChatMessage[];
}

export class Conversation {
  #id: string;
  #system: string | null;
  /** Without the system message; null: it began in another process, so its texts are not known here. */
  #said: ChatMessage[] | null = null;
  /** The session holds something else than the texts say. */
  #changed = false;

  constructor(
    private readonly engine: Engine,
    id: string | undefined,
    system: string | undefined,
  ) {
    this.#id = id ?? newName();
    this.#system = system ?? null;
  }

  get system(): string | null {
    return this.#system;
  }

  /** What is kept of it, or null before its first turn. */
  async info(): Promise<SessionInfo | null> {
    try {
      const info = await this.engine.sessions.get(this.#id);
      return info.tokens > 0 ? info : null;
    } catch (error) {
      if (error instanceof LongmindError && error.code === 'session_not_found') return null;
      throw error;
    }
  }

  get id(): string {
    return this.#id;
  }

  /** Goes on with another, or begins it. */
  open(id: string): void {
    this.#id = id;
    this.#said = null;
    this.#changed = false;
  }

  async reset(): Promise<void> {
    if (await this.info()) await this.engine.sessions.delete(this.#id);
    this.open(newName());
  }

  /** From the next turn on, also for what was said before. False: that is not known here, so only a new one begins with it. */
  setSystem(text: string | null): boolean {
    this.#system = text;
    this.#changed = this.#said !== null;
    return this.#said !== null;
  }

  /** `finish` is told what was answered, so that it is part of the conversation. */
  async say(
    text: string,
    options: RequestOptions,
  ): Promise<{ generation: Generation; finish: (answer: string) => void }> {
    const message: ChatMessage = { role: 'user', content: text };
    if (!this.#said && !(await this.info())) this.#said = [];
    const said = this.#said;
    const whole = said !== null && (said.length === 0 || this.#changed);
    const messages = whole ? [...this.#head(), ...said, message] : [message];
    const append = !this.#changed;
    const generation = this.engine.chat({ messages, sessionId: this.#id, sessionAppend: append, ...options });
    const finish = (answer: string) => {
      this.#changed = false;
      this.#said?.push(message, { role: 'assistant', content: answer });
    };
    return { generation, finish };
  }

  /** Takes the last turn back and gives what was asked in it; null if there is none that is known here. */
  takeBack(): string | null {
    if (!this.#said || this.#said.length === 0) return null;
    const [question] = this.#said.splice(-2);
    this.#changed = true;
    return question!.content;
  }

  /** Turns written. @throws LongmindError io_error; invalid_request where its texts are not known here */
  async save(file: string): Promise<number> {
    if (!this.#said) throw errors.invalidRequest('this conversation began elsewhere: its texts are not known here');
    const messages = [...this.#head(), ...this.#said];
    const saved: Saved = { longmind: 'chat', model: this.engine.info.modelName, messages };
    try {
      await writeFile(file, `${JSON.stringify(saved, null, 2)}\n`, { mode: 0o600 });
    } catch (e) {
      throw errors.io(`writing '${file}'`, (e as Error).message);
    }
    return this.#said.length / 2;
  }

  /** Begins a new conversation with what /save wrote; gives its texts. @throws LongmindError io_error */
  async load(file: string): Promise<readonly ChatMessage[]> {
    let messages: ChatMessage[];
    try {
      messages = parseSaved(await readFile(file, 'utf8'));
    } catch (e) {
      throw errors.io(`reading '${file}'`, (e as Error).message);
    }
    this.open(newName());
    this.#system = messages[0]?.role === 'system' ? messages.shift()!.content : null;
    this.#said = messages;
    this.#changed = messages.length > 0;
    return messages;
  }

  #head(): ChatMessage[] {
    return this.#system === null ? [] : [{ role: 'system', content: this.#system }];
  }
}

const newName = (): string => `chat-${randomUUID().slice(0, 8)}`;

function parseSaved(text: string): ChatMessage[] {
  const saved = JSON.parse(text) as Partial<Saved>;
  const good =
    Array.isArray(saved?.messages) &&
    saved.messages.every((m) => typeof m?.content === 'string' && ['system', 'user', 'assistant'].includes(m.role));
  if (!good) throw new Error('this is no conversation that /save wrote');
  return saved.messages!.map(({ role, content }) => ({ role, content }));
}
