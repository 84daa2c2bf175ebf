/**
 * A conversation as token ids: the file's own chat template (Jinja), with contents kept from becoming special tokens.
 * A template is code from outside: it has bounds, and runs where it can be stopped (see worker.ts).
 */
import { errors, LongmindError } from '../errors.js';
import type { ChatMessage, ChatRole } from '../types.js';
import { BoundedTemplate } from './bounded-template.js';
import { chooseTemplate } from './default-templates.js';
import { Guard, stringsOf } from './guard.js';
import { metadataString } from './metadata.js';
import type { Metadata, Tokenizer } from './types.js';

/** A role becomes part of the template's own text, so it is one of these. */
const ROLES: readonly ChatRole[] = ['system', 'developer', 'user', 'assistant', 'tool', 'function', 'ipython'];

export interface ChatOptions {
  /** End with the beginning of the assistant's turn (default true). */
  addGenerationPrompt?: boolean;
  /** JSON descriptions of functions, as the template wants them. */
  tools?: unknown[];
  /** More variables for the template, such as `enable_thinking`. */
  variables?: Record<string, unknown>;
}

export interface RenderedChat {
  text: string;
  ids: Int32Array;
}

export interface ChatTemplate {
  /** null: the file's own template; else in words what was taken instead. */
  readonly instead: string | null;
  apply(messages: readonly ChatMessage[], options?: ChatOptions): RenderedChat;
  /** What follows an assistant's last content: its end of turn, `messages`, and the beginning of the next answer. */
  continue(messages: readonly ChatMessage[], options?: ChatOptions): RenderedChat;
}

/** Never throws for a bad template: a model may be good for plain completion without one. `apply` throws then. */
export function createChatTemplate(metadata: Metadata, tokenizer: Tokenizer): ChatTemplate {
  return new JinjaChatTemplate(metadataString(metadata, 'tokenizer.chat_template'), tokenizer);
}

class JinjaChatTemplate implements ChatTemplate {
  readonly instead: string | null;
  readonly #text: string;
  readonly #guard: Guard;
  readonly #template: BoundedTemplate | null;
  readonly #broken: string = '';
  readonly #names: { bos_token: string; eos_token: string };

  constructor(
    own: string | null,
    private readonly tokenizer: Tokenizer,
  ) {
    const { text, instead } = chooseTemplate(own, tokenizer);
    const { bos, eos } = tokenizer.special;
    this.#names = {
      bos_token: bos === null ? '' : tokenizer.tokenText(bos),
      eos_token: eos === null ? '' : tokenizer.tokenText(eos),
    };
    this.#text = text;
    this.instead = instead;
    this.#guard = new Guard(tokenizer.controlTexts());
    try {
      this.#template = new BoundedTemplate(text);
    } catch (e) {
      this.#template = null;
      this.#broken = messageOf(e);
    }
  }

  apply(messages: readonly ChatMessage[], options: ChatOptions = {}): RenderedChat {
    if (messages.length === 0) throw errors.invalidRequest('there must be at least one message', 'messages');
    const mark = this.#chooseMark(messages, options);
    const marked = this.#render(this.#protect(messages, mark), options, mark);
    return this.#finish(marked, mark, false);
  }

  continue(messages: readonly ChatMessage[], options: ChatOptions = {}): RenderedChat {
    const mark = this.#chooseMark(messages, options);
    // the end of this answer can be found again, whatever the template puts around it
    const answer = mark + mark + mark;
    const history = [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: answer },
    ];
    const marked = this.#render([...history, ...this.#protect(messages, mark)], options, mark);
    const at = marked.lastIndexOf(answer);
    if (at < 0)
      throw errors.badTemplate("it leaves the assistant's answers out, so a session cannot be continued by it");
    return this.#finish(marked.slice(at + answer.length), mark, true);
  }

  #chooseMark(messages: readonly ChatMessage[], options: ChatOptions): string {
    return this.#guard.chooseMark(stringsOf([this.#text, messages, options]));
  }

  #protect(messages: readonly ChatMessage[], mark: string): unknown[] {
    return messages.map((message, i) => {
      const { role, content, ...extra } = message;
      if (!ROLES.includes(role)) {
        throw errors.invalidRequest(
          `messages[${i}].role must be one of ${ROLES.join(', ')}, not '${String(role)}'`,
          'messages',
        );
      }
      if (content !== null && content !== undefined && typeof content !== 'string')
        throw errors.invalidRequest(`messages[${i}].content must be a string`, 'messages');
      const guarded = this.#guard.protectAll(extra, mark) as Record<string, unknown>;
      // some templates tell a message of calls alone by this
      if (content === null && extra.tool_calls) return { ...guarded, role, content };
      return { ...guarded, role, content: this.#guard.protect(content ?? '', mark) };
    });
  }

  #render(messages: unknown[], options: ChatOptions, mark: string): string {
    if (!this.#template) throw errors.badTemplate(this.#broken);
    try {
      return this.#template.render({
        ...this.#names,
        ...(this.#guard.protectAll(options.variables ?? {}, mark) as Record<string, unknown>),
        ...(options.tools ? { tools: this.#guard.protectAll(options.tools, mark) } : {}),
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? true,
      });
    } catch (e) {
      if (e instanceof LongmindError) throw e;
      throw errors.badTemplate(messageOf(e));
    }
  }

  #finish(marked: string, mark: string, continued: boolean): RenderedChat {
    const text = marked.replaceAll(mark, '');
    const ids = this.tokenizer.encode(marked, { special: true, leaveOut: mark, continued });
    const start = continued ? [] : this.tokenizer.startTokens;
    return { text, ids: start.length > 0 && ids[0] !== start[0] ? Int32Array.from([...start, ...ids]) : ids };
  }
}

const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e)).slice(0, 500);
