/** From what a caller says to token ids; text work happens off this thread. */
import { errors } from '../errors.js';
import type { ChatMessage, ChatRequest, CompletionRequest, StreamDecoder, TokenBytes } from '../types.js';
import type { EngineRequest } from './request.js';

/** What the engine needs of a tokenizer; all text work happens off the engine thread. */
export interface TextSide {
  encode(text: string, options: { special: boolean }): Promise<Int32Array>;
  /** The whole conversation, ready for the assistant's answer. */
  encodeChat(messages: ChatMessage[], options?: { tools?: unknown[] }): Promise<Int32Array>;
  /** What follows an assistant's last content: its end of turn, the new messages, ready for the answer. */
  encodeContinuation(messages: ChatMessage[], options?: { tools?: unknown[] }): Promise<Int32Array>;
  decode(ids: ArrayLike<number>, options: { special: boolean }): string;
  createDecoder(): StreamDecoder;
  readonly tokenBytes: TokenBytes;
  /** Tokens that end a generation. */
  readonly endTokens: readonly number[];
  readonly startTokens: readonly number[];
  close(): Promise<void>;
}

/** The tokens of a whole history and, if only what is new is given, those that follow an earlier turn. */
export type Encoded = Pick<EngineRequest, 'tokens' | 'continuation'>;

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
  { messages, tools, after, sessionAppend: append = false }: ChatRequest,
  opening: (messages: ChatMessage[]) => ChatMessage[],
): Promise<Encoded> {
  const good = Array.isArray(messages) && messages.length > 0 && messages.every((m) => typeof m?.role === 'string');
  if (!good) throw errors.invalidRequest("'messages' must be an array of at least one { role, content }", 'messages');
  if (after !== undefined) {
    const more = await text.encodeContinuation(messages, { tools });
    return { tokens: more, continuation: more };
  }
  const [tokens, continuation] = await Promise.all([
    text.encodeChat(opening(messages), { tools }),
    append ? text.encodeContinuation(messages, { tools }) : null,
  ]);
  return { tokens, continuation };
}
