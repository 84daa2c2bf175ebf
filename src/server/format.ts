/** Bodies and chunks of the OpenAI API. Chunks are built around fixed beginnings: one is made for every token. */
import type { Engine, Generation, GenerationResult, LongmindError, TokenLogprob, Usage } from '../index.js';
import { errorBody } from './errors.js';
import type { StreamStyle } from './sse.js';
import type { ApiCall, CallDelta } from './tool-output.js';

/** What the answers to one request have in common. */
export interface Answer {
  id: string;
  created: number;
  model: string;
  systemFingerprint: string;
}

/** One finished choice. */
export interface Finished {
  text: string;
  /** null: it did not think, or that is not split off. */
  reasoning: string | null;
  /** null: no tools were offered. */
  calls: ApiCall[] | null;
  reason: string;
  logprobs: TokenLogprob[] | null;
  stopString: string | null;
  timings: GenerationResult['timings'];
}

/** How one endpoint spells its answers. */
export interface Format {
  /** Default: server-sent events. */
  readonly style?: StreamStyle;
  /** Opens a choice of a stream; '' if this endpoint has nothing to say before the first token. `prompt`: what is known of it. */
  open(index: number, prompt: Generation['prompt']): string;
  delta(index: number, text: string, logprobs: TokenLogprob[] | null): string;
  /** A piece of the thinking before the answer. */
  think(index: number, text: string, logprobs: TokenLogprob[] | null): string;
  /** A piece of a function call. */
  call(index: number, call: CallDelta, logprobs: TokenLogprob[] | null): string;
  finish(index: number, reason: string, result: GenerationResult): string;
  /** The last words of a stream whose choices are all finished. */
  end(results: Finished[], usage: Usage): string;
  /** The last words of a stream that failed. */
  error(error: LongmindError): string;
  /** The whole answer of a request that does not stream. */
  body(results: Finished[], usage: Usage): Record<string, unknown>;
}

type Decode = Engine['decode'];

const head = (a: Answer, object: string): string =>
  JSON.stringify({
    id: a.id,
    object,
    created: a.created,
    model: a.model,
    system_fingerprint: a.systemFingerprint,
  }).slice(0, -1);

function usageJson(u: Usage): Record<string, unknown> {
  return {
    prompt_tokens: u.promptTokens,
    completion_tokens: u.completionTokens,
    total_tokens: u.promptTokens + u.completionTokens,
    prompt_tokens_details: { cached_tokens: u.cachedTokens },
    completion_tokens_details: {
      reasoning_tokens: u.reasoningTokens,
      accepted_prediction_tokens: u.acceptedDraftTokens,
    },
  };
}

/** Of the choices of one request, `n` for each prompt in a row: a prompt counts once, however many choices it has. */
export function sumUsage(all: readonly Usage[], n: number): Usage {
  const total = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, reasoningTokens: 0, acceptedDraftTokens: 0 };
  all.forEach((u, i) => {
    total.completionTokens += u.completionTokens;
    total.reasoningTokens += u.reasoningTokens;
    if (i % n !== 0) return;
    total.promptTokens += u.promptTokens;
    total.cachedTokens += u.cachedTokens;
    total.acceptedDraftTokens += u.acceptedDraftTokens;
  });
  return total;
}

const DONE = 'data: [DONE]\n\n';

const ending = (a: Answer, object: string, includeUsage: boolean): Pick<Format, 'end' | 'error'> => ({
  end: (_, u) =>
    includeUsage ? `data: ${head(a, object)},"choices":[],"usage":${JSON.stringify(usageJson(u))}}\n\n${DONE}` : DONE,
  error: (e) => `data: ${JSON.stringify(errorBody(e))}\n\n${DONE}`,
});

/** `tools`: the answer may be calls, and then its content is null. */
export function chatFormat(a: Answer, decode: Decode, includeUsage: boolean, tools: boolean): Format {
  const start = `data: ${head(a, 'chat.completion.chunk')},"choices":[{"index":`;
  const end = includeUsage ? `}],"usage":null}\n\n` : '}]}\n\n';
  const chunk = (index: number, delta: string, logprobs: string, reason: string): string =>
    `${start}${index},"delta":${delta},"logprobs":${logprobs},"finish_reason":${reason}${end}`;
  return {
    open: (index) => chunk(index, `{"role":"assistant","content":${tools ? 'null' : '""'}}`, 'null', 'null'),
    delta: (index, text, logprobs) =>
      chunk(index, `{"content":${JSON.stringify(text)}}`, JSON.stringify(chatLogprobs(logprobs, decode)), 'null'),
    think: (index, text, logprobs) =>
      chunk(
        index,
        `{"reasoning_content":${JSON.stringify(text)}}`,
        JSON.stringify(chatLogprobs(logprobs, decode)),
        'null',
      ),
    call: (index, call, logprobs) =>
      chunk(index, `{"tool_calls":[${JSON.stringify(call)}]}`, JSON.stringify(chatLogprobs(logprobs, decode)), 'null'),
    finish: (index, reason) => chunk(index, '{}', 'null', JSON.stringify(reason)),
    ...ending(a, 'chat.completion.chunk', includeUsage),
    body: (results, usage) => ({
      id: a.id,
      object: 'chat.completion',
      created: a.created,
      model: a.model,
      choices: results.map((r, index) => ({
        index,
        message: chatMessageJson(r),
        logprobs: chatLogprobs(r.logprobs, decode),
        finish_reason: r.reason,
      })),
      usage: usageJson(usage),
      system_fingerprint: a.systemFingerprint,
    }),
  };
}

function chatMessageJson({ text, reasoning, calls }: Finished): Record<string, unknown> {
  const thought = reasoning === null ? {} : { reasoning_content: reasoning };
  const message = { role: 'assistant', content: text, refusal: null, ...thought };
  if (!calls?.length) return message;
  return { ...message, content: text.trim() === '' ? null : text, tool_calls: calls };
}

export function completionFormat(a: Answer, decode: Decode, includeUsage: boolean): Format {
  const start = `data: ${head(a, 'text_completion')},"choices":[{"index":`;
  const end = includeUsage ? `}],"usage":null}\n\n` : '}]}\n\n';
  const chunk = (index: number, text: string, logprobs: string, reason: string): string =>
    `${start}${index},"text":${JSON.stringify(text)},"logprobs":${logprobs},"finish_reason":${reason}${end}`;
  const offsets: number[] = [];
  return {
    open: () => '',
    delta: (index, text, logprobs) => {
      const lp = completionLogprobs(logprobs, decode, offsets[index] ?? 0);
      offsets[index] = (offsets[index] ?? 0) + text.length;
      return chunk(index, text, JSON.stringify(lp), 'null');
    },
    // a text that is gone on with is not split
    think: () => '',
    call: () => '',
    finish: (index, reason) => chunk(index, '', 'null', JSON.stringify(reason)),
    ...ending(a, 'text_completion', includeUsage),
    body: (results, usage) => ({
      id: a.id,
      object: 'text_completion',
      created: a.created,
      model: a.model,
      choices: results.map((r, index) => ({
        index,
        text: r.text,
        logprobs: completionLogprobs(r.logprobs, decode, 0),
        finish_reason: r.reason,
      })),
      usage: usageJson(usage),
      system_fingerprint: a.systemFingerprint,
    }),
  };
}

/** -Infinity (a banned token) has no JSON; OpenAI says -9999. */
const finite = (logprob: number): number => (Number.isFinite(logprob) ? logprob : -9999);

function tokenJson(
  id: number,
  logprob: number,
  decode: Decode,
): { token: string; logprob: number; bytes: number[] | null } {
  const token = decode([id], { special: true });
  // a token that is part of a character has no text of its own
  const bytes = token.includes('\ufffd') ? null : [...Buffer.from(token, 'utf8')];
  return { token, logprob: finite(logprob), bytes };
}

export function chatLogprobs(list: TokenLogprob[] | null, decode: Decode): { content: object[]; refusal: null } | null {
  if (!list) return null;
  const content = list.map((t) => ({
    ...tokenJson(t.tokenId, t.logprob, decode),
    top_logprobs: t.top.map((o) => tokenJson(o.tokenId, o.logprob, decode)),
  }));
  return { content, refusal: null };
}

function completionLogprobs(
  list: TokenLogprob[] | null,
  decode: Decode,
  offset: number,
): Record<string, unknown> | null {
  if (!list) return null;
  const text = (id: number): string => decode([id], { special: true });
  const tokens = list.map((t) => text(t.tokenId));
  let at = offset;
  return {
    tokens,
    token_logprobs: list.map((t) => finite(t.logprob)),
    top_logprobs: list.map((t) => Object.fromEntries(t.top.map((o) => [text(o.tokenId), finite(o.logprob)]))),
    text_offset: tokens.map((t) => {
      const here = at;
      at += t.length;
      return here;
    }),
  };
}
