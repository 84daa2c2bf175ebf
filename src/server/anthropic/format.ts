/** Messages as Anthropic's API has them, and the events of their streams. */
import type { Generation, Usage } from '../../index.js';
import type { Answer, Finished, Format } from '../format.js';
import { sseStyle } from '../sse.js';
import type { CallDelta } from '../tool-output.js';
import { anthropicError } from './translate.js';

/** Of tokens of the prompt those count as input that were not found in the cache. */
const inputJson = ({ promptTokens, cachedTokens }: Pick<Usage, 'promptTokens' | 'cachedTokens'>) => ({
  input_tokens: promptTokens - cachedTokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: cachedTokens,
});

const usageJson = (u: Usage) => ({ ...inputJson(u), output_tokens: u.completionTokens });

function stopOf(reason: string, stopString: string | null) {
  const named: Record<string, string> = { length: 'max_tokens', tool_calls: 'tool_use' };
  const stopReason = stopString === null ? (named[reason] ?? 'end_turn') : 'stop_sequence';
  return { stop_reason: stopReason, stop_sequence: stopString };
}

const event = (data: { type: string } & Record<string, unknown>): string =>
  `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

const shell = (a: Answer) => ({ id: a.id, type: 'message', role: 'assistant', model: a.model });

/** Clients send thinking back only with a signature; nothing is checked by it. */
const SIGNATURE = 'longmind';

function contentOf({ text, reasoning, calls }: Finished): object[] {
  const blocks: object[] = reasoning ? [{ type: 'thinking', thinking: reasoning, signature: SIGNATURE }] : [];
  if (text !== '' && !(calls?.length && text.trim() === '')) blocks.push({ type: 'text', text });
  for (const { id, function: f } of calls ?? [])
    blocks.push({ type: 'tool_use', id, name: f.name, input: JSON.parse(f.arguments) });
  return blocks;
}

/** One message that streams: its blocks come one after another. */
class Blocks {
  #count = 0;
  #open: 'thinking' | 'text' | 'tool_use' | null = null;
  /** What came before the first word: before calls it is no text. */
  #space = '';

  think(thinking: string): string {
    const block = { type: 'thinking', thinking: '', signature: '' };
    const started = this.#open === 'thinking' ? '' : this.#start('thinking', block);
    return started + this.#delta({ type: 'thinking_delta', thinking });
  }

  text(text: string): string {
    if (this.#open === 'text') return this.#delta({ type: 'text_delta', text });
    this.#space += text;
    if (this.#space.trim() === '') return '';
    return this.#start('text', { type: 'text', text: '' }) + this.#delta({ type: 'text_delta', text: this.#space });
  }

  call({ id, function: f }: CallDelta): string {
    const started = id === undefined ? '' : this.#start('tool_use', { type: 'tool_use', id, name: f.name, input: {} });
    return started + (f.arguments === '' ? '' : this.#delta({ type: 'input_json_delta', partial_json: f.arguments }));
  }

  end(): string {
    const rest =
      (this.#count === 0 || this.#open === 'thinking') && this.#space !== ''
        ? this.#start('text', { type: 'text', text: '' }) + this.#delta({ type: 'text_delta', text: this.#space })
        : '';
    return rest + this.#stop();
  }

  #start(kind: 'thinking' | 'text' | 'tool_use', block: object): string {
    const stopped = this.#stop();
    this.#open = kind;
    return stopped + event({ type: 'content_block_start', index: this.#count++, content_block: block });
  }

  #delta(delta: object): string {
    return event({ type: 'content_block_delta', index: this.#count - 1, delta });
  }

  #stop(): string {
    if (this.#open === null) return '';
    const signed = this.#open === 'thinking' ? this.#delta({ type: 'signature_delta', signature: SIGNATURE }) : '';
    this.#open = null;
    return signed + event({ type: 'content_block_stop', index: this.#count - 1 });
  }
}

export function messagesFormat(a: Answer): Format {
  const blocks = new Blocks();
  return {
    style: { ...sseStyle, ping: event({ type: 'ping' }) },
    open: (_: number, prompt: Generation['prompt']) => {
      const usage = { ...inputJson(prompt ?? { promptTokens: 0, cachedTokens: 0 }), output_tokens: 0 };
      const message = { ...shell(a), content: [], ...stopOf('', null), stop_reason: null, usage };
      return event({ type: 'message_start', message });
    },
    delta: (_, text) => blocks.text(text),
    think: (_, text) => blocks.think(text),
    call: (_, call) => blocks.call(call),
    finish: () => blocks.end(),
    end: ([r], usage) =>
      event({ type: 'message_delta', delta: stopOf(r!.reason, r!.stopString), usage: usageJson(usage) }) +
      event({ type: 'message_stop' }),
    error: (e) => {
      const { type, error } = anthropicError(e, null) as { type: string; error: object };
      return event({ type, error });
    },
    body: ([r], usage) => ({
      ...shell(a),
      content: contentOf(r!),
      ...stopOf(r!.reason, r!.stopString),
      usage: { ...usageJson(usage), service_tier: 'standard' },
    }),
  };
}
