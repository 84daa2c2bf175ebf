/** Responses as JSON, and the events of their streams. */
import type { Engine, Generation, LongmindError, TokenLogprob, Usage } from '../../index.js';
import { errorBody } from '../errors.js';
import { optionOf } from '../fields.js';
import { chatLogprobs, type Finished, type Format } from '../format.js';
import type { CallDelta } from '../tool-output.js';
import { type ItemIds, type ItemJson, outputCall, outputJson, outputMessage, outputReasoning } from './items.js';
import type { Head, Note } from './note.js';

const OUTPUT_LIMIT = { reason: 'max_output_tokens' };

export type ResponseJson = Record<string, unknown>;

/** All that does not depend on what is said. */
export function responseShell(note: Omit<Note, 'items'>, head: Head, store: boolean): ResponseJson {
  const { id, created, model, previous, given } = note;
  const or = (field: string, otherwise: unknown) => given[field] ?? otherwise;
  const text = or('text', {}) as { format?: object | null };
  return {
    id,
    object: 'response',
    created_at: created,
    status: 'in_progress',
    background: false,
    error: null,
    incomplete_details: null,
    instructions: head.instructions,
    max_output_tokens: or('max_output_tokens', null),
    max_tool_calls: or('max_tool_calls', null),
    model,
    output: [],
    parallel_tool_calls: or('parallel_tool_calls', true),
    previous_response_id: previous ?? null,
    prompt_cache_key: or('prompt_cache_key', null),
    reasoning: { effort: null, summary: null, ...(or('reasoning', {}) as object) },
    safety_identifier: or('safety_identifier', null),
    service_tier: 'default',
    store,
    temperature: or('temperature', optionOf('temperature').default),
    text: { format: text.format ?? { type: 'text' }, verbosity: 'medium' },
    tool_choice: or('tool_choice', 'auto'),
    tools: head.tools,
    top_logprobs: or('top_logprobs', 0),
    top_p: or('top_p', optionOf('topP').default),
    truncation: 'disabled',
    usage: null,
    user: or('user', null),
    metadata: or('metadata', {}),
  };
}

const usageJson = (u: Pick<Usage, 'promptTokens' | 'cachedTokens' | 'completionTokens' | 'reasoningTokens'>) => ({
  input_tokens: u.promptTokens,
  input_tokens_details: { cached_tokens: u.cachedTokens },
  output_tokens: u.completionTokens,
  output_tokens_details: { reasoning_tokens: u.reasoningTokens },
  total_tokens: u.promptTokens + u.completionTokens,
});

export function statusOf(reason: string): 'completed' | 'incomplete' | 'cancelled' {
  return reason === 'length' ? 'incomplete' : reason === 'abort' ? 'cancelled' : 'completed';
}

export function wholeResponse(
  shell: ResponseJson,
  reason: string,
  output: ItemJson[],
  usage: Parameters<typeof usageJson>[0],
): ResponseJson {
  const status = statusOf(reason);
  return {
    ...shell,
    status,
    incomplete_details: status === 'incomplete' ? OUTPUT_LIMIT : null,
    output,
    usage: usageJson(usage),
  };
}

type Event = { type: string } & Record<string, unknown>;

/** One response that streams. Its items come one after another: thinking, a message, if anything is said, then calls. */
class ResponseStream {
  #sequence = 0;
  #out = '';
  /** Items that were opened. */
  #items = 0;
  #text: string | null = null;
  #thought: string | null = null;
  /** What came before the first word. */
  #space = '';
  #call: { index: number; callId: string; name: string; arguments: string } | null = null;

  constructor(
    private readonly ids: ItemIds,
    private readonly logprobs: (list: TokenLogprob[] | null) => unknown[],
  ) {}

  send({ type, ...rest }: Event): this {
    const data = JSON.stringify({ type, sequence_number: this.#sequence++, ...rest });
    this.#out += `event: ${type}\ndata: ${data}\n\n`;
    return this;
  }

  take(): string {
    const out = this.#out;
    this.#out = '';
    return out;
  }

  think(text: string): void {
    if (this.#thought === null) {
      this.#thought = '';
      const item = outputReasoning(this.ids.reasoning, 'in_progress', '');
      this.send({ type: 'response.output_item.added', output_index: this.#items++, item });
    }
    this.#thought += text;
    this.send({ type: 'response.reasoning_text.delta', ...this.#thinkingAt(), delta: text });
  }

  #thinkingAt() {
    return { item_id: this.ids.reasoning, output_index: this.#items - 1, content_index: 0 };
  }

  #messageAt() {
    return { item_id: this.ids.message, output_index: this.#items - 1, content_index: 0 };
  }

  say(text: string, logprobs: TokenLogprob[] | null): void {
    if (this.#text === null) {
      this.#space += text;
      // before calls it is no message
      if (this.#space.trim() === '') return;
      this.#openMessage();
      this.#say(this.#space, logprobs);
    } else this.#say(text, logprobs);
  }

  #say(text: string, logprobs: TokenLogprob[] | null): void {
    this.#text += text;
    this.send({
      type: 'response.output_text.delta',
      ...this.#messageAt(),
      delta: text,
      logprobs: this.logprobs(logprobs),
    });
  }

  call({ index, id, function: f }: CallDelta): void {
    if (id !== undefined) {
      this.close('completed');
      this.#call = { index, callId: id, name: f.name!, arguments: '' };
      const item = outputCall(this.ids.call(index), 'in_progress', id, f.name!, '');
      this.send({ type: 'response.output_item.added', output_index: this.#items++, item });
    }
    if (f.arguments === '' || !this.#call) return;
    this.#call.arguments += f.arguments;
    const at = { item_id: this.ids.call(index), output_index: this.#items - 1 };
    this.send({ type: 'response.function_call_arguments.delta', ...at, delta: f.arguments });
  }

  /** Ends the item that is open. */
  close(status: string): void {
    if (this.#thought !== null) this.#closeThinking(this.#thought);
    else if (this.#text !== null) this.#closeMessage(this.#text, status);
    else if (this.#call) {
      const { index, callId, name, arguments: args } = this.#call;
      const at = { item_id: this.ids.call(index), output_index: this.#items - 1 };
      this.send({ type: 'response.function_call_arguments.done', ...at, name, arguments: args });
      const item = outputCall(this.ids.call(index), status, callId, name, args);
      this.send({ type: 'response.output_item.done', output_index: this.#items - 1, item });
    }
    this.#text = null;
    this.#thought = null;
    this.#call = null;
  }

  #closeThinking(text: string): void {
    this.send({ type: 'response.reasoning_text.done', ...this.#thinkingAt(), text });
    const item = outputReasoning(this.ids.reasoning, 'completed', text);
    this.send({ type: 'response.output_item.done', output_index: this.#items - 1, item });
  }

  /** An answer without a word is an empty message. */
  finish(status: string): void {
    if (this.#items === 0 || this.#thought !== null) {
      this.#openMessage();
      if (this.#space !== '') this.#say(this.#space, null);
    }
    this.close(status);
  }

  #openMessage(): void {
    this.close('completed');
    this.#text = '';
    const item = { ...outputMessage(this.ids.message, 'in_progress', ''), content: [] };
    this.send({ type: 'response.output_item.added', output_index: this.#items++, item });
    const part = { type: 'output_text', text: '', annotations: [], logprobs: [] };
    this.send({ type: 'response.content_part.added', ...this.#messageAt(), part });
  }

  #closeMessage(text: string, status: string): void {
    const at = this.#messageAt();
    this.send({ type: 'response.output_text.done', ...at, text, logprobs: [] });
    const part = { type: 'output_text', text, annotations: [], logprobs: [] };
    this.send({ type: 'response.content_part.done', ...at, part });
    const item = outputMessage(this.ids.message, status, text);
    this.send({ type: 'response.output_item.done', output_index: at.output_index, item });
  }
}

export function responsesFormat(shell: ResponseJson, ids: ItemIds, decode: Engine['decode']): Format {
  const logprobsOf = (list: TokenLogprob[] | null): unknown[] => chatLogprobs(list, decode)?.content ?? [];
  const stream = new ResponseStream(ids, logprobsOf);
  const whole = ([r]: Finished[], usage: Usage): ResponseJson => {
    const status = statusOf(r!.reason) === 'completed' ? 'completed' : 'incomplete';
    const output = outputJson(
      { text: r!.text, reasoning: r!.reasoning, calls: r!.calls ?? [] },
      ids,
      status,
      logprobsOf(r!.logprobs),
    );
    return wholeResponse(shell, r!.reason, output, usage);
  };
  return {
    open: (_index: number, _prompt: Generation['prompt']) =>
      stream
        .send({ type: 'response.created', response: shell })
        .send({ type: 'response.in_progress', response: shell })
        .take(),
    delta: (_, text, logprobs) => {
      stream.say(text, logprobs);
      return stream.take();
    },
    think: (_, text) => {
      stream.think(text);
      return stream.take();
    },
    call: (_, call) => {
      stream.call(call);
      return stream.take();
    },
    finish: (_, reason) => {
      stream.finish(statusOf(reason) === 'completed' ? 'completed' : 'incomplete');
      return stream.take();
    },
    end: (results, usage) => {
      const response = whole(results, usage);
      const type = response.status === 'completed' ? 'response.completed' : 'response.incomplete';
      return stream.send({ type, response }).take();
    },
    error: (e: LongmindError) => {
      const { error } = errorBody(e);
      const { code, message, param } = error;
      return stream.send({ type: 'error', code, message, param, error }).take();
    },
    body: whole,
  };
}
