/** From what a caller says to token ids; text work happens off this thread. */
import type { ChatMessage, TokenBytes } from '../types.js';
import type { TextDecoder } from './generation.js';
import type { EngineRequest } from './request.js';

/** What the engine needs of a tokenizer; all text work happens off the engine thread. */
export interface TextSide {
  encode(text: string, options: { special: boolean }): Promise<Int32Array>;
  /** The whole conversation, ready for the assistant's answer. */
  encodeChat(messages: ChatMessage[], options?: { tools?: unknown[] }): Promise<Int32Array>;
  /** What follows an assistant's last content: its end of turn, the new messages, ready for the answer. */
  encodeContinuation(messages: ChatMessage[], options?: { tools?: unknown[] }): Promise<Int32Array>;
  decode(ids: ArrayLike<number>, options: { special: boolean }): string;
  createDecoder(): TextDecoder;
  readonly tokenBytes: TokenBytes;
  /** Tokens that end a generation. */
  readonly endTokens: readonly number[];
  readonly startTokens: readonly number[];
  close(): Promise<void>;
}

export type Prompt =
  | { kind: 'text'; text: string }
  | { kind: 'tokens'; ids: Int32Array }
  /** `first`: the same as a conversation begins, where that differs. */
  | { kind: 'chat'; messages: ChatMessage[]; first?: ChatMessage[] };

/** The tokens of a whole history and, if only what is new is given, those that follow an earlier turn. */
export type Encoded = Pick<EngineRequest, 'tokens' | 'continuation'>;

export async function encodePrompt(
  text: TextSide,
  prompt: Prompt,
  append: boolean,
  tools?: unknown[],
): Promise<Encoded> {
  if (prompt.kind === 'tokens') return { tokens: prompt.ids, continuation: append ? prompt.ids : null };
  if (prompt.kind === 'chat') {
    const [tokens, continuation] = await Promise.all([
      text.encodeChat(prompt.first ?? prompt.messages, { tools }),
      append ? text.encodeContinuation(prompt.messages, { tools }) : null,
    ]);
    return { tokens, continuation };
  }
  const continuation = await text.encode(prompt.text, { special: false });
  const tokens = Int32Array.from([...text.startTokens, ...continuation]);
  return { tokens, continuation: append ? continuation : null };
}
