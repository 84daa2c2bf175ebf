/** From what a caller says to token ids; text work happens off this thread. */
import { PROMPT_TAIL, reasoningStart } from '../base/reasoning.js';
import { errors } from '../errors.js';
import type {
  ChatMessage,
  ChatRequest,
  CompletionRequest,
  ReasoningFormat,
  ReasoningStart,
  StreamDecoder,
  TokenBytes,
} from '../types.js';
import type { EngineRequest } from './request.js';

interface TemplateOptions {
  tools?: unknown[];
  variables?: Record<string, unknown>;
}

/** What the engine needs of a tokenizer; all text work happens off the engine thread. */
export interface TextSide {
  encode(text: string, options: { special: boolean }): Promise<Int32Array>;
  /** The whole conversation, ready for the assistant's answer. */
  encodeChat(messages: ChatMessage[], options?: TemplateOptions): Promise<Int32Array>;
  /** What follows an assistant's last content: its end of turn, the new messages, ready for the answer. */
  encodeContinuation(messages: ChatMessage[], options?: TemplateOptions): Promise<Int32Array>;
  decode(ids: ArrayLike<number>, options: { special: boolean }): string;
  createDecoder(): StreamDecoder;
  readonly tokenBytes: TokenBytes;
  /** Tokens that end a generation. */
  readonly endTokens: readonly number[];
  readonly startTokens: readonly number[];
  /** How the model thinks; default: it does not. */
  readonly reasoning?: ReasoningFormat | null;
  close(): Promise<void>;
}

/** The tokens of a whole history and, if only what is new is given, those that follow an earlier turn. */
export interface Encoded extends Pick<EngineRequest, 'tokens' | 'continuation'> {
  /** What the prompt of a model that thinks leaves to it. */
  reasoning?: ReasoningStart;
}

/** @throws LongmindError invalid_request, for a caller without types */
export async function encodePrompt(
  text: TextSide,
  { prompt, after, sessionAppend = false }: CompletionRequest,
): Promise<Encoded> {
  const append = sessionAppend || after !== undefined;
  if (typeof prompt !== 'string') {
    const list = Array.from(prompt ?? []);
    if (typeof prompt !== 'object' || !list.every(Number.isInteger))
      throw errors.invalidRequest("'prompt' must be a string or token ids", 'prompt');
    const ids = Int32Array.from(list);
    return { tokens: ids, continuation: append ? ids : null };
  }
  const continuation = await text.encode(prompt, { special: false });
  const tokens = Int32Array.from([...text.startTokens, ...continuation]);
  return { tokens, continuation: append ? continuation : null };
}

/** `opening`: the messages as their conversation begins. @throws LongmindError invalid_request, for a caller without types */
export async function encodeChat(
  text: TextSide,
  { messages, tools, chatTemplateKwargs: variables, after, sessionAppend: append = false }: ChatRequest,
  opening: (messages: ChatMessage[]) => ChatMessage[],
): Promise<Encoded> {
  const good = Array.isArray(messages) && messages.length > 0 && messages.every((m) => typeof m?.role === 'string');
  if (!good) throw errors.invalidRequest("'messages' must be an array of at least one { role, content }", 'messages');
  const options = { tools, variables };
  if (after !== undefined) {
    const more = await text.encodeContinuation(messages, options);
    return { tokens: more, continuation: more, ...startOf(text, more) };
  }
  const [tokens, continuation] = await Promise.all([
    text.encodeChat(opening(messages), options),
    append ? text.encodeContinuation(messages, options) : null,
  ]);
  return { tokens, continuation, ...startOf(text, tokens) };
}

function startOf(text: TextSide, tokens: Int32Array): Pick<Encoded, 'reasoning'> {
  if (!text.reasoning) return {};
  return { reasoning: reasoningStart(text.reasoning, text.decode(tokens.slice(-PROMPT_TAIL), { special: true })) };
}
