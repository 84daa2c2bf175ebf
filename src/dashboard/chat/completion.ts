/** One streamed answer of /v1/chat/completions. */
import { ApiError, call } from '../ui/api.js';
import { eventsOf } from '../ui/sse.js';
import type { Message } from './model.js';

interface Ask {
  messages: Message[];
  session?: string;
  /** `messages` hold only what is new. */
  append?: boolean;
  temperature: number;
  topP?: number;
  topK?: number;
  repetitionPenalty?: number;
  maxTokens: number | null;
  seed?: number | null;
}

export interface Outcome {
  text: string;
  /** '' for a model that does not think. */
  reasoning: string;
  reason: 'stop' | 'length' | 'abort';
  usage: { prompt: number; cached: number; completion: number } | null;
  /** Milliseconds from sending to the first text. */
  ttftMs: number | null;
  /** Tokens a second after the first; null for one token. */
  speed: number | null;
}

interface Chunk {
  id: string;
  choices: { delta?: { content?: string; reasoning_content?: string }; finish_reason: Outcome['reason'] | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number; prompt_tokens_details: { cached_tokens: number } } | null;
  error?: { message: string; code: string };
}

/** The server answers an abort by the next step; after this long the connection is cut instead. */
const ABORT_MS = 3_000;

/**
 * Asks and reads. `stop` ends it early: politely where the request's id is known, so that the last words and the counts
 * still come. Rejects with what the server said was wrong.
 */
export async function ask(
  what: Ask,
  stop: AbortSignal,
  onText: (text: string, reasoning: string) => void,
): Promise<Outcome> {
  const cut = new AbortController();
  let id: string | null = null;
  let late: ReturnType<typeof setTimeout> | undefined;
  const onStop = () => {
    if (id === null) return cut.abort();
    late = setTimeout(() => cut.abort(), ABORT_MS);
    call('/abort_request', { body: { id } }).catch(() => cut.abort());
  };
  stop.addEventListener('abort', onStop, { once: true });
  const out: Outcome = { text: '', reasoning: '', reason: 'abort', usage: null, ttftMs: null, speed: null };
  const started = performance.now();
  let [first, last] = [0, 0];
  try {
    if (stop.aborted) return out;
    const response = await call('/v1/chat/completions', { body: bodyOf(what), signal: cut.signal });
    for await (const { data } of eventsOf(response)) {
      if (data === '[DONE]') continue;
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error) throw new ApiError(500, chunk.error.code, chunk.error.message);
      id = chunk.id;
      const choice = chunk.choices[0];
      const content = choice?.delta?.content ?? '';
      const reasoning = choice?.delta?.reasoning_content ?? '';
      if (content || reasoning) {
        last = performance.now();
        first ||= last;
        out.text += content;
        out.reasoning += reasoning;
        onText(out.text, out.reasoning);
      }
      if (choice?.finish_reason) out.reason = choice.finish_reason;
      if (chunk.usage) out.usage = usageOf(chunk.usage);
    }
  } catch (error) {
    if (!stop.aborted) throw error;
  } finally {
    clearTimeout(late);
    stop.removeEventListener('abort', onStop);
  }
  if (first > 0) {
    out.ttftMs = first - started;
    const more = (out.usage?.completion ?? 0) - 1;
    if (more > 0 && last > first) out.speed = (more * 1000) / (last - first);
  }
  return out;
}

function bodyOf(what: Ask): Record<string, unknown> {
  return {
    messages: what.messages,
    stream: true,
    stream_options: { include_usage: true },
    temperature: what.temperature,
    ...(what.session === undefined ? {} : { session_id: what.session }),
    ...(what.append ? { session_append: true } : {}),
    ...(what.maxTokens === null ? {} : { max_tokens: what.maxTokens }),
    ...(what.topP === undefined ? {} : { top_p: what.topP }),
    ...(what.topK === undefined ? {} : { top_k: what.topK }),
    ...(what.repetitionPenalty === undefined ? {} : { repetition_penalty: what.repetitionPenalty }),
    ...(what.seed === undefined || what.seed === null ? {} : { seed: what.seed }),
  };
}

const usageOf = (u: NonNullable<Chunk['usage']>): NonNullable<Outcome['usage']> => ({
  prompt: u.prompt_tokens,
  cached: u.prompt_tokens_details.cached_tokens,
  completion: u.completion_tokens,
});
