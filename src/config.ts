/**
 * Every option once: name, default, check, help. The command line, the library and the server's documentation are made
 * from these tables; an option that is not in them is refused.
 */
import { errors } from './errors.js';
import type { GenerationLimits, SamplingParams } from './types.js';

export interface OptionSpec<T> {
  readonly default: T;
  /** Placeholder on the command line; absent for booleans. */
  readonly value?: string;
  readonly help: string;
  /** What a good value is, for messages. */
  readonly expected: string;
  /** From a string of the command line or a library value to the typed value; undefined = not good. */
  readonly parse: (raw: unknown) => T | undefined;
  /** JSON Schema of a good value, where the option is also a field of the HTTP API. */
  readonly schema?: Readonly<Record<string, unknown>>;
}

type Values<S> = { -readonly [K in keyof S]: S[K] extends OptionSpec<infer T> ? T : never };

// ---------------------------------------------------------------- kinds of values

const toNumber = (raw: unknown): number =>
  typeof raw === 'number' ? raw : typeof raw === 'string' && raw.trim() !== '' ? Number(raw) : Number.NaN;

function integer(fallback: number, min: number, max: number, help: string, value = 'N'): OptionSpec<number> {
  return {
    default: fallback,
    value,
    help,
    expected: `an integer from ${min} to ${max}`,
    parse: (raw) => {
      const n = toNumber(raw);
      return Number.isSafeInteger(n) && n >= min && n <= max ? n : undefined;
    },
    schema: { type: 'integer', minimum: min, maximum: max },
  };
}

function flag(fallback: boolean, help: string): OptionSpec<boolean> {
  return {
    default: fallback,
    help,
    expected: 'true or false',
    parse: (raw) => (typeof raw === 'boolean' ? raw : raw === 'true' ? true : raw === 'false' ? false : undefined),
    schema: { type: 'boolean' },
  };
}

function text(fallback: string, help: string, value: string): OptionSpec<string> {
  return {
    default: fallback,
    value,
    help,
    expected: 'a string',
    parse: (raw) => (typeof raw === 'string' ? raw : undefined),
  };
}

/** A scheme; one letter is a drive of Windows. */
const SCHEME = /^[a-z][a-z\d+.-]+:/i;
const STORE_SCHEME = /^(rediss?|postgres(ql)?):\/\//;

/** A folder, or a store that several servers share: an address, or '@FILE' with one. */
export const isStoreAddress = (place: string): boolean => STORE_SCHEME.test(place);

const storePlace = (help: string): OptionSpec<string> => ({
  ...text('', help, 'PLACE'),
  expected:
    'a folder, or an address that begins with redis://, rediss:// or postgres://, or @FILE with such an address (a folder whose name has a colon: ./NAME)',
  // an address that is mistyped must not become a folder
  parse: (raw) =>
    typeof raw === 'string' && (!SCHEME.test(raw) || (isStoreAddress(raw) && URL.canParse(raw))) ? raw : undefined,
});

function list(help: string, value: string): OptionSpec<string[]> {
  return {
    default: [],
    value,
    help,
    expected: 'a list of strings separated by commas',
    parse: (raw) => {
      if (Array.isArray(raw))
        return raw.every((x) => typeof x === 'string' && x !== '') ? (raw as string[]) : undefined;
      return typeof raw === 'string'
        ? raw
            .split(',')
            .map((s) => s.trim())
            .filter(Boolean)
        : undefined;
    },
  };
}

function choice<const C extends readonly (string | number)[]>(
  fallback: C[number],
  choices: C,
  help: string,
): OptionSpec<C[number]> {
  return {
    default: fallback,
    value: choices.join('|'),
    help,
    expected: `one of ${choices.join(', ')}`,
    parse: (raw) => choices.find((c) => String(c) === String(raw)),
  };
}

const SIZE = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)$/i;
const UNIT: Record<string, number> = {
  b: 1,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
};

/** '512MiB' → bytes; undefined if it is not a size. */
export function parseSize(raw: string): number | undefined {
  const m = SIZE.exec(raw.trim());
  return m ? Math.floor(Number(m[1]) * UNIT[m[2]!.toLowerCase()]!) : undefined;
}

/** Blocks taken from the device at a time: -1 all at start, 0 the square root of all, n; 'auto': what suits the device. */
export type ChunkSize = number | 'auto';

const chunkSize: OptionSpec<ChunkSize> = {
  default: 'auto',
  value: 'N',
  help:
    'KV blocks taken from the device at a time: auto (from the machine about 32 MiB when they are needed, from a GPU all at ' +
    'start), -1 all at start, 0 = square root, n',
  expected: `'auto', or an integer from -1 to ${2 ** 31 - 1}`,
  parse: (raw) => {
    if (raw === 'auto') return raw;
    const n = toNumber(raw);
    return Number.isSafeInteger(n) && n >= -1 && n < 2 ** 31 ? n : undefined;
  },
};

/** A share of the memory left, a count of blocks, or bytes. */
export type CacheSize =
  | { kind: 'share'; share: number }
  | { kind: 'blocks'; blocks: number }
  | { kind: 'bytes'; bytes: number };

const cacheSize: OptionSpec<CacheSize> = {
  default: { kind: 'share', share: 0.8 },
  value: 'SIZE',
  help:
    'KV cache: a share in (0,1) of the memory left after weights and workspace, a count of blocks (integer >= 1), ' +
    'or a size such as 512MiB or 4GiB',
  expected: 'a share in (0,1), an integer >= 1, or a size such as 512MiB',
  parse: (raw) => {
    if (typeof raw === 'object' && raw !== null && 'kind' in raw) return raw as CacheSize;
    if (typeof raw === 'string') {
      const bytes = parseSize(raw);
      if (bytes !== undefined) return bytes >= 1 ? { kind: 'bytes', bytes } : undefined;
    }
    const n = toNumber(raw);
    if (n > 0 && n < 1) return { kind: 'share', share: n };
    return Number.isSafeInteger(n) && n >= 1 && n <= 2 ** 31 - 1 ? { kind: 'blocks', blocks: n } : undefined;
  },
};

/** Bytes; 0 = none. */
const size = (help: string): OptionSpec<number> => ({
  default: 0,
  value: 'SIZE',
  help,
  expected: 'a size such as 4GiB (0 = none)',
  parse: (raw) => {
    const bytes = raw === 0 || raw === '0' ? 0 : typeof raw === 'number' ? raw : parseSize(String(raw));
    return bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= 0 ? bytes : undefined;
  },
});

/** A folder and what may be kept in it. */
export interface DiskSpace {
  dir: string;
  bytes: number;
}

/** '' = none. */
const webAddress = (help: string): OptionSpec<string> => ({
  default: '',
  value: 'URL',
  help,
  expected: 'an address that begins with http:// or https://',
  parse: (raw) => {
    if (raw === '') return '';
    return typeof raw === 'string' && /^https?:\/\//.test(raw) && URL.canParse(raw) ? raw : undefined;
  },
});

const diskSpace = (help: string): OptionSpec<DiskSpace | null> => ({
  default: null,
  value: 'DIR:SIZE',
  help,
  expected: 'a folder and a size, such as /var/cache/longmind:50GiB',
  parse: (raw) => {
    if (raw === null || raw === '') return null;
    if (typeof raw === 'object') {
      const { dir, bytes } = raw as Partial<DiskSpace>;
      return typeof dir === 'string' && dir !== '' && Number.isSafeInteger(bytes) && bytes! > 0
        ? { dir, bytes: bytes! }
        : undefined;
    }
    const at = typeof raw === 'string' ? raw.lastIndexOf(':') : -1;
    const bytes = at > 0 ? parseSize((raw as string).slice(at + 1)) : undefined;
    return bytes ? { dir: (raw as string).slice(0, at), bytes } : undefined;
  },
});

/** A LoRA adapter: the name that requests ask for, and where it is. */
export interface AdapterRef {
  name: string;
  ref: string;
}

/** 'latest' is Ollama's word for no tag. */
const ADAPTER_NAME = /^(?!latest$)[\w.-]{1,64}$/;

function adapterRef(raw: unknown): AdapterRef | undefined {
  const at = typeof raw === 'string' ? raw.indexOf('=') : -1;
  const { name, ref } =
    at > 0
      ? { name: (raw as string).slice(0, at), ref: (raw as string).slice(at + 1) }
      : ((raw ?? {}) as Partial<AdapterRef>);
  return typeof name === 'string' && typeof ref === 'string' && ADAPTER_NAME.test(name) && ref !== ''
    ? { name, ref }
    : undefined;
}

const adapterRefs = (help: string): OptionSpec<AdapterRef[]> => ({
  default: [],
  value: 'NAME=REF',
  help,
  expected: "NAME=REF, each name once and of letters, digits, '_', '.' and '-' (not 'latest')",
  parse: (raw) => {
    const isTable = typeof raw === 'object' && raw !== null && !Array.isArray(raw);
    const given = isTable ? Object.entries(raw).map(([name, ref]) => ({ name, ref })) : [raw].flat();
    const refs = given.map(adapterRef);
    const names = new Set(refs.map((r) => r?.name));
    return refs.every((r) => r !== undefined) && names.size === refs.length ? refs : undefined;
  },
});

/** Tokens a block; 0 stands for 'session' (one slot per sequence). */
const blockSeqLen: OptionSpec<number> = {
  default: 64,
  value: 'N',
  help: "tokens per KV block: a power of two from 16 to 4096, or 'session' for one slot per sequence",
  expected: "a power of two from 16 to 4096, or 'session'",
  parse: (raw) => {
    if (raw === 'session' || raw === 0) return 0;
    const n = toNumber(raw);
    return Number.isSafeInteger(n) && n >= 16 && n <= 4096 && (n & (n - 1)) === 0 ? n : undefined;
  },
};

/** 'cuda:1' → the number of the GPU; null if it is none of CUDA's. 'auto' stands for the first. */
export function gpuOf(device: string): number | null {
  if (device === 'auto' || device === 'cuda') return 0;
  const m = /^cuda:(\d{1,3})$/.exec(device);
  return m ? Number(m[1]) : null;
}

const device: OptionSpec<string> = {
  default: 'cpu',
  value: 'auto|cpu|cuda[:N]|null',
  help: 'what computes: auto = the first NVIDIA GPU if there is one, else the CPU; null is for tests of everything but arithmetic',
  expected: 'one of auto, cpu, cuda, cuda:N, null',
  parse: (raw) =>
    typeof raw === 'string' && (raw === 'cpu' || raw === 'null' || gpuOf(raw) !== null) ? raw : undefined,
};

// ---------------------------------------------------------------- the tables

/** Highest priority there is; a server allows less (`maxPriority`). */
export const MAX_PRIORITY = 1000;

export const engineOptions = {
  cacheMaxEntryCount: cacheSize,
  cacheBlockSeqLen: blockSeqLen,
  cacheChunkSize: chunkSize,
  cacheHost: size('host memory for KV that left the device (only for devices with memory of their own)'),
  cacheDisk: diskSpace('disk space for KV that left the device; conversations go on from there, also after a restart'),
  cachePolicy: {
    ...choice('lru', ['lru'] as const, 'which cached blocks go first: the least recently used'),
    expected: "lru ('adaptive' was removed: on traces that it was not made for it could lose hits, see docs/cache.md)",
  },
  enablePrefixCaching: flag(true, 'share the KV of equal beginnings between sequences'),
  isolateOwners: flag(false, 'never share KV between requests of different API keys'),
  quantPolicy: choice(
    0,
    [0, 8, 4] as const,
    'bits of the KV cache: 0 = f16; 8 costs nothing measurable; 4 costs 12 to 18% of perplexity',
  ),
  speculation: choice(
    'auto',
    ['auto', 'lookup', 'off'] as const,
    'guess the next tokens and verify several in a step, where it pays; changes speed only (lookup = from the text so far, ' +
      'auto = with the draft model too)',
  ),
  draftModel: text('', 'a small model of the same vocabulary that guesses the next tokens', 'REF'),
  lora: adapterRefs(
    'a LoRA adapter (PEFT folder or .gguf, hf:org/repo too) that requests ask for as MODEL:NAME; may be repeated',
  ),
  sessionLen: integer(0, 0, 2 ** 24, "longest sequence in tokens (0 = the model's context length)"),
  maxBatchSize: integer(64, 1, 1024, 'sequences computed in one step'),
  maxPrefillTokenNum: integer(
    0,
    0,
    65536,
    'tokens computed in one step (0 = measured, so that a step takes <= 250 ms)',
  ),
  maxQueue: integer(1024, 1, 1e6, 'requests that may wait'),
  maxSessions: integer(100_000, 1, 1e7, 'sessions kept; the least recently used are forgotten first'),
  maxSessionTokens: integer(100_000_000, 1, 2 ** 31 - 1, 'token ids kept, all sessions together'),
  sessionStore: storePlace(
    'keep sessions in this folder, or in Redis or PostgreSQL (redis://…, postgres://…), where several servers share them',
  ),
  sessionLease: integer(10, 1, 600, 'how long a shared session stays locked when its server dies', 'S'),
  sessionTtl: integer(0, 0, 1e9, 'forget shared sessions that nobody used for so long (0 = never)', 'S'),
  reasoningFormat: choice(
    'auto',
    ['auto', 'none'] as const,
    'tell what a model thinks from what it answers, by the marks of its chat template (none = all is the answer)',
  ),
  systemPrompt: text('', "system message for chats that bring none (default: the chat template's own)", 'TEXT'),
  threads: integer(0, 0, 256, 'CPU threads (0 = one for each core that this process may use, within its cgroup quota)'),
  engineNice: integer(
    3,
    0,
    19,
    'how far the threads that compute give way to the one that serves (added to their nice value; Linux)',
  ),
  device,
  tp: integer(1, 1, 64, 'GPUs that share the model, from the one that --device names on (tensor parallel)'),
  isa: choice(
    'auto',
    ['auto', 'amx', 'avx512', 'avxvnni', 'avx2', 'i8mm', 'dotprod', 'portable'] as const,
    'CPU kernels',
  ),
  weights: choice(
    'file',
    ['file', 'bf16', 'q8', 'q4'] as const,
    'what weights of 16 or 32 bits become while they are loaded: they stay, 16 bits, 8, or 4 (Q8_0, Q4_0)',
  ),
  nativeLibrary: text('', 'a prebuilt native library instead of building one', 'FILE'),
  debugOps: flag(false, 'run operation by operation (slow; the same bits)'),
} satisfies Record<string, OptionSpec<never> | OptionSpec<unknown>>;

export const hubOptions = {
  offline: flag(false, 'never fetch; use files that are here'),
  cacheDir: text('', 'folder for fetched models (default ~/.cache/longmind)', 'DIR'),
};

export const serverOptions = {
  serverName: text('127.0.0.1', 'address to listen on', 'HOST'),
  serverPort: integer(23333, 0, 65535, 'port to listen on (0 = any free one)', 'PORT'),
  servedModelName: list(
    "the model's names in the API, the first for who names none; '*' takes any (default: the reference it was given by)",
    'NAME,…',
  ),
  apiKeys: list('keys that clients must send; without them only 127.0.0.1 may be bound', 'KEY,…'),
  allowOrigins: list('origins that browsers may call from (CORS)', 'URL,…'),
  allowRemoteWithoutKey: flag(false, 'listen on other addresses without API keys'),
  maxBodyBytes: integer(8 * 2 ** 20, 1024, 2 ** 30, 'largest request body'),
  maxConnections: integer(1024, 1, 65535, 'connections at a time'),
  maxPriority: integer(2, 0, MAX_PRIORITY, 'highest priority that a request may ask for (lowest: the same below 0)'),
  maxConversations: integer(10_000, 1, 1e6, 'conversations kept; the least recently used are forgotten first'),
  conversationStore: storePlace(
    'keep conversations in this folder or shared store (default: where --session-store is)',
  ),
  conversationLease: integer(
    10,
    1,
    600,
    'how long a shared conversation stays locked when its server dies (default: as --session-lease)',
    'S',
  ),
  drainSeconds: integer(30, 0, 3600, 'how long running requests may go on after SIGTERM or Ctrl-C', 'S'),
  logLevel: choice(
    'warn',
    ['silent', 'error', 'warn', 'info', 'debug'] as const,
    'what is logged (JSON lines on stderr)',
  ),
  otlpEndpoint: webAddress(
    'send traces to this OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318',
  ),
};

export type EngineConfig = Values<typeof engineOptions>;
export type WeightsChoice = EngineConfig['weights'];
export type HubConfig = Values<typeof hubOptions>;
export type ServerConfig = Values<typeof serverOptions>;

/** Library options: anything the tables know, as values or as the strings of the command line. */
export type EngineOptions = {
  [K in Exclude<keyof EngineConfig, 'lora'>]?: EngineConfig[K] | string | number | boolean;
} & {
  /** Name → reference, or 'NAME=REF'. */
  lora?: EngineConfig['lora'] | Readonly<Record<string, string>> | string | string[];
} & {
  [K in keyof HubConfig]?: HubConfig[K];
} & { model?: string };

/** Checks values against a table; fills in defaults; refuses names that `known` does not have either. */
export function parseOptions<S extends Record<string, OptionSpec<unknown>>>(
  table: S,
  given: Record<string, unknown>,
  known: readonly string[] = [],
): Values<S> {
  const out: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(table)) out[name] = spec.default;
  for (const [name, raw] of Object.entries(given)) {
    const spec = table[name];
    if (!spec) {
      if (known.includes(name)) continue;
      throw errors.unknownOption(name, closest(name, [...Object.keys(table), ...known]));
    }
    if (raw === undefined) continue;
    const value = spec.parse(raw);
    if (value === undefined) throw errors.invalidOption(name, raw, spec.expected);
    out[name] = value;
  }
  return out as Values<S>;
}

// ---------------------------------------------------------------- per request

const number = (fallback: number, min: number, max: number, help: string): OptionSpec<number> => ({
  default: fallback,
  value: 'X',
  help,
  expected: `a number from ${min} to ${max}`,
  parse: (raw) => {
    const n = toNumber(raw);
    return n >= min && n <= max ? n : undefined;
  },
  schema: { type: 'number', minimum: min, maximum: max },
});

const nullable = <T>(spec: OptionSpec<T>, fallback: T | null): OptionSpec<T | null> => ({
  ...spec,
  default: fallback,
  expected: `${spec.expected}, or null`,
  parse: (raw) => (raw === null ? null : spec.parse(raw)),
});

const strings = (max: number, help: string): OptionSpec<string[]> => ({
  default: [],
  value: 'TEXT',
  help,
  expected: `at most ${max} non-empty strings of at most 256 characters`,
  parse: (raw) => {
    const a = typeof raw === 'string' ? [raw] : raw;
    if (!Array.isArray(a) || a.length > max) return undefined;
    return a.every((s) => typeof s === 'string' && s.length >= 1 && s.length <= 256) ? (a as string[]) : undefined;
  },
  schema: {
    anyOf: [
      { type: 'string', minLength: 1, maxLength: 256 },
      { type: 'array', maxItems: max, items: { type: 'string', minLength: 1, maxLength: 256 } },
    ],
  },
});

export const samplingOptions = {
  temperature: number(0.7, 0, 100, '0 = greedy'),
  topK: integer(0, 0, 2 ** 31 - 1, 'choose among the k likeliest tokens (0 = off)'),
  topP: number(0.95, 0, 1, 'choose among the likeliest tokens that have this probability together (1 = off)'),
  minP: number(0, 0, 1, 'drop tokens less likely than this share of the likeliest'),
  repetitionPenalty: number(1, 0.01, 100, 'divides the logits of tokens seen before (1 = off)'),
  presencePenalty: number(0, -2, 2, 'subtracted from the logits of tokens that were generated'),
  frequencyPenalty: number(0, -2, 2, 'subtracted from the logits of tokens as often as they were generated'),
  seed: nullable(integer(0, 0, Number.MAX_SAFE_INTEGER, 'the same seed gives the same tokens'), null),
  logprobs: nullable(integer(0, 0, 20, 'log-probabilities of the chosen token and of so many alternatives'), null),
  logitBias: {
    default: {},
    help: 'token id → number from -100 to 100 added to its logit (-100 bans it)',
    expected: 'at most 1024 token ids with numbers from -100 to 100',
    parse: (raw) => {
      if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return undefined;
      const entries = Object.entries(raw);
      const good = entries.every(([k, v]) => /^\d{1,9}$/.test(k) && typeof v === 'number' && v >= -100 && v <= 100);
      return good && entries.length <= 1024 ? (raw as Record<number, number>) : undefined;
    },
    schema: {
      type: 'object',
      maxProperties: 1024,
      patternProperties: { '^[0-9]{1,9}$': { type: 'number', minimum: -100, maximum: 100 } },
      additionalProperties: false,
    },
  } satisfies OptionSpec<Record<number, number>>,
} satisfies { [K in keyof SamplingParams]: OptionSpec<SamplingParams[K]> };

/** The likeliest token each time, and nothing else done to the logits. */
export const greedySampling: Readonly<SamplingParams & { seed: number }> = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 1,
  logprobs: null,
  logitBias: {},
};

const tokenIds: OptionSpec<number[]> = {
  default: [],
  help: 'token ids that end the generation',
  expected: 'at most 64 token ids',
  parse: (raw) =>
    Array.isArray(raw) && raw.length <= 64 && raw.every((t) => Number.isSafeInteger(t) && t >= 0 && t < 2 ** 31)
      ? (raw as number[])
      : undefined,
  schema: { type: 'array', maxItems: 64, items: { type: 'integer', minimum: 0, maximum: 2 ** 31 - 1 } },
};

export const limitOptions = {
  maxTokens: nullable(integer(0, 1, 2 ** 24, 'tokens to generate at most'), null),
  minTokens: integer(0, 0, 2 ** 24, 'tokens to generate at least'),
  stop: strings(16, 'ends the generation before this string'),
  stopTokens: tokenIds,
  ignoreEos: flag(false, 'keep going past the end-of-turn token'),
} satisfies { [K in keyof GenerationLimits]: OptionSpec<GenerationLimits[K]> };

/** Lone surrogates: several names would become one on the disk. */
const ILL_FORMED = /\p{Surrogate}/u;

/** The name of a session, or the caller's error. */
export function checkSessionId(id: unknown, param = 'session_id'): string {
  if (typeof id === 'string' && id.length >= 1 && id.length <= 256 && !ILL_FORMED.test(id)) return id;
  throw errors.invalidRequest('the name of a session must be well-formed text of 1 to 256 characters', param);
}

/** A priority within these bounds, or the caller's error. */
export function checkPriority(priority: unknown, most = MAX_PRIORITY): number {
  if (typeof priority === 'number' && Number.isInteger(priority) && Math.abs(priority) <= most) return priority;
  throw errors.invalidRequest(
    `priority must be an integer from ${-most} to ${most}, not ${String(priority)}`,
    'priority',
  );
}

/** `maxTokens: null` allows at most this many. */
export const DEFAULT_MAX_TOKENS = 4096;

/** 'cacheMaxEntryCount' → '--cache-max-entry-count'. */
export function flagName(option: string): string {
  return `--${option.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
}

function closest(name: string, names: string[]): string | undefined {
  const flat = (s: string) => s.toLowerCase().replace(/[^a-z]/g, '');
  const scored = names.map((n) => ({ n, d: distance(flat(n), flat(name)) })).sort((a, b) => a.d - b.d);
  return scored[0] && scored[0].d <= 3 ? scored[0].n : undefined;
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
