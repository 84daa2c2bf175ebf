/**
 * The real engine (worker, batch, cache manager) over the null device, with a vocabulary that needs no model file: bytes and
 * invented words. Its answers are nonsense, but the same nonsense for the same context, and any wrong block changes them.
 */
import { engineOptions, parseOptions } from '../../src/config.js';
import type { Program } from '../../src/device/device.js';
import { EngineClient, type TextSide } from '../../src/engine/client.js';
import type { ChatMessage, Engine, EngineInfo } from '../../src/types.js';

const END = 0;
/** Byte b is token b + 3; words follow. */
const FIRST_BYTE = 3;
const FIRST_WORD = FIRST_BYTE + 256;
const VOCAB = 512;

const encoder = new TextEncoder();
const spelling = (t: number): Uint8Array => {
  if (t < FIRST_BYTE) return new Uint8Array(0);
  return t < FIRST_WORD ? Uint8Array.of(t - FIRST_BYTE) : encoder.encode(` ${word(t)}`);
};

function word(t: number): string {
  const [a, b] = ['bdfgklmnprstvz', 'aeiou'];
  return a[t % 14]! + b[t % 5]! + a[(t >> 2) % 14]! + b[(t >> 3) % 5]!;
}

const bytesTo = (text: string): number[] => Array.from(encoder.encode(text), (b) => b + FIRST_BYTE);

function textSide(): TextSide {
  const spellings = Array.from({ length: VOCAB }, (_, t) => spelling(t));
  const offsets = Int32Array.from({ length: VOCAB + 1 }, () => 0);
  for (let t = 0; t < VOCAB; t++) offsets[t + 1] = offsets[t]! + spellings[t]!.length;
  const bytes = new Uint8Array(offsets[VOCAB]!);
  for (let t = 0; t < VOCAB; t++) bytes.set(spellings[t]!, offsets[t]);
  const say = (m: ChatMessage): number[] => [1, ...bytesTo(`${m.role}: ${m.content}`), END];
  const decode = (ids: ArrayLike<number>): string =>
    new TextDecoder().decode(Uint8Array.from(Array.from(ids).flatMap((t) => [...spellings[t]!])));
  return {
    encode: async (text) => Int32Array.from(bytesTo(text)),
    encodeChat: async (messages) => Int32Array.from([...messages.flatMap(say), 1, ...bytesTo('assistant: ')]),
    encodeContinuation: async (messages) =>
      Int32Array.from([END, ...messages.flatMap(say), 1, ...bytesTo('assistant: ')]),
    decode,
    // bytes beyond ASCII come out as replacement characters one by one: nonsense anyway
    createDecoder: () => ({ push: (id) => decode([id]), flush: () => '' }),
    tokenBytes: { bytes, offsets, special: Uint8Array.from({ length: VOCAB }, (_, t) => (t < FIRST_BYTE ? 1 : 0)) },
    endTokens: [END],
    startTokens: [],
    close: async () => {},
  };
}

export interface NullEngineOptions {
  blocks: number;
  blockLen?: number;
  sessionLen?: number;
}

export async function nullEngine({ blocks, blockLen = 16, sessionLen = 4096 }: NullEngineOptions): Promise<Engine> {
  const dims = { layers: 2, dim: 16, heads: 1, kvHeads: 1, headDim: 16, ffDim: 32, vocab: VOCAB };
  const program: Program = { dims: { ...dims, contextLength: sessionLen }, buffers: [], ops: [] };
  const config = parseOptions(engineOptions, {
    device: 'null',
    cacheMaxEntryCount: blocks,
    cacheBlockSeqLen: blockLen,
    maxBatchSize: 16,
    maxPrefillTokenNum: 128,
  });
  const text = textSide();
  const data = {
    program,
    weights: { path: '', tensors: new Map() },
    config,
    fingerprint: '',
  };
  const { client, info } = await EngineClient.start(data, text);
  const about: EngineInfo = {
    modelName: 'null',
    modelPath: '/nowhere/null.gguf',
    architecture: 'llama',
    dims,
    parameters: 1_000_000,
    quantisation: 'none',
    contextLength: sessionLen,
    ...info,
    loadMs: 1,
  };
  return {
    info: about,
    complete: ({ prompt, ...options }) =>
      client.generate(
        typeof prompt === 'string' ? { kind: 'text', text: prompt } : { kind: 'tokens', ids: Int32Array.from(prompt) },
        options,
      ),
    chat: ({ messages, ...options }) => client.generate({ kind: 'chat', messages }, options),
    encode: (s, o) => text.encode(s, { special: o?.special ?? false }),
    decode: (ids, o) => text.decode(ids, { special: o?.special ?? false }),
    sessions: client.sessions,
    stats: () => client.stats(),
    snapshot: () => client.snapshot(),
    check: () => client.check(),
    close: () => client.close(),
    [Symbol.asyncDispose]: () => client.close(),
  };
}
