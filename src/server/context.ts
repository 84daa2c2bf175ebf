/** What the routes share. */
import type { Engine, LongmindError } from '../index.js';
import type { Keys } from './auth.js';
import type { ConversationKeeper } from './conversations/conversations.js';
import type { Grammars } from './grammars.js';
import type { InFlight } from './in-flight.js';
import type { ToolStyle } from './messages.js';
import type { RequestLog } from './request-log.js';
import type { ReservedNames } from './reserved.js';
import type { ServedNames } from './served-names.js';
import type { ServerMetrics } from './server-metrics.js';
import type { TagTokens } from './tool-output.js';
import type { Tracing } from './tracing/tracing.js';
import type { Turns } from './turns.js';

/** Milliseconds and bytes; the defaults suit people's clients, tests shorten them. */
export interface ServerTiming {
  /** A stream's headers are sent at the first token, or after this long; until then an error has its own HTTP status. */
  headersAfterMs: number;
  /** A comment line goes to a stream that has been silent for so long, so that proxies keep it open. */
  pingMs: number;
  /** A reader that takes nothing for so long is cut off. */
  stallMs: number;
  /** As is one for whom so many bytes are waiting. */
  maxBufferedBytes: number;
  /** What a client has for its headers, and for the whole request. */
  headersMs: number;
  requestMs: number;
}

export const defaultTiming: ServerTiming = {
  headersAfterMs: 5_000,
  pingMs: 15_000,
  stallMs: 30_000,
  maxBufferedBytes: 2 ** 20,
  headersMs: 10_000,
  requestMs: 60_000,
};

export interface ServerContext {
  engine: Engine;
  /** The names clients use for the model. */
  models: ServedNames;
  /** Seconds since the epoch. */
  created: number;
  /** The API's `system_fingerprint`: equal ones and equal seeds give equal tokens. */
  systemFingerprint: string;
  keys: Keys;
  inFlight: InFlight;
  metrics: ServerMetrics;
  requests: RequestLog;
  /** null: nobody asked for traces. */
  tracing: Tracing | null;
  timing: ServerTiming;
  maxPriority: number;
  turns: Turns;
  grammars: Grammars;
  /** How this model hears of tools and writes calls. */
  toolStyle: ToolStyle;
  /** Its tags, where they are special tokens. */
  toolTags: TagTokens;
  /** Sessions that were asked for and not used yet. */
  reserved: ReservedNames;
  conversations: ConversationKeeper;
  draining: boolean;
  /** Ends what would go on for ever: called when a drain begins. */
  onDrain: (() => void)[];
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Whose sessions and requests the caller may see: found from the API key; 0 without keys. */
    owner: number;
  }
  /** For /openapi.json. */
  interface FastifySchema {
    tags?: string[];
    summary?: string;
    hide?: boolean;
  }
  interface FastifyContextConfig {
    /** Needs no API key, and answers during a drain too. */
    open?: boolean;
    /** How its API tells errors; default: OpenAI's way. */
    errorForm?: (error: LongmindError, requestId: string) => object;
  }
}
