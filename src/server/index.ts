/**
 * The OpenAI-compatible HTTP server over an Engine.
 *
 * ```ts
 * const server = await createServer(engine, { serverPort: 23333 });
 * console.log(server.url);
 * await server.close();
 * ```
 */
import { once } from 'node:events';
import { createServer as createNetServer } from 'node:net';
import { type Engine, errors, LongmindError, parseOptions, type ServerConfig, serverOptions } from '../index.js';
import { openStore, storeAddress } from '../store/index.js';
import { buildApp } from './app.js';
import { isLoopback, Keys } from './auth.js';
import { defaultTiming, type ServerContext, type ServerTiming } from './context.js';
import { type ConversationKeeper, Conversations } from './conversations/conversations.js';
import { openFolder } from './conversations/folder.js';
import { SharedConversations } from './conversations/shared.js';
import { serverErrors } from './errors.js';
import { Grammars } from './grammars.js';
import { InFlight } from './in-flight.js';
import { RequestLog } from './request-log.js';
import { ReservedNames } from './reserved.js';
import { ServedNames } from './served-names.js';
import { ServerMetrics } from './server-metrics.js';
import { tagTokens } from './tool-output.js';
import { checkTracing, openTracing } from './tracing/tracing.js';
import { Turns } from './turns.js';

export { isLoopback } from './auth.js';
export type { ServerTiming } from './context.js';

/** Options of `serverOptions` in config.ts, as values or as command-line strings. */
export type ServerOptions = { [K in keyof ServerConfig]?: ServerConfig[K] | string | number | boolean } & {
  timing?: Partial<ServerTiming>;
  /** Shown in /openapi.json. */
  version?: string;
};

export interface LongmindServer extends AsyncDisposable {
  /** With the port that was really taken. */
  readonly url: string;
  readonly port: number;
  /** The first of the names that it answers to. */
  readonly modelName: string;
  /**
   * Drains: answers new requests with 503, lets running ones go on for `drainMs` (default: the drainSeconds option), then
   * ends them with an error, and closes every connection. Does not close the engine.
   */
  close(options?: { drainMs?: number }): Promise<void>;
}

/** How long aborted requests have to send their last words. */
const LAST_WORDS_MS = 2_000;

/** Throws what createServer would throw for these options, before a model is loaded for nothing. */
export function checkServerOptions(options: ServerOptions): { config: ServerConfig; keys: Keys } {
  const { timing: _, version: __, ...given } = options;
  const config = parseOptions(serverOptions, given);
  const keys = new Keys(config.apiKeys);
  if (!isLoopback(config.serverName) && !keys.required && !config.allowRemoteWithoutKey)
    throw serverErrors.remoteWithoutKey(config.serverName);
  const { conversationStore: place, conversationLease: lease } = config;
  const { default: usual } = serverOptions.conversationLease;
  if (storeAddress(place) === null && lease !== usual)
    throw errors.invalidOption(
      'conversationLease',
      lease,
      `${usual} without a store of conversations that servers share`,
    );
  return { config, keys };
}

/** As createServer would: rejects if the address cannot be listened on, or traces cannot be made. Nothing stays open. */
export async function checkSurroundings({ serverName, serverPort, otlpEndpoint }: ServerConfig): Promise<void> {
  if (otlpEndpoint) await checkTracing();
  const probe = createNetServer();
  try {
    probe.listen({ host: serverName, port: serverPort });
    await once(probe, 'listening');
  } catch (error) {
    throw listenError(error as NodeJS.ErrnoException, serverName, serverPort);
  } finally {
    probe.close();
  }
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): LongmindError {
  if (error.code === 'EADDRINUSE') return errors.portInUse(host, port);
  return errors.io(`listening on ${host}:${port}`, error.message);
}

/** Starts listening. Rejects with a typed error: port in use, address not allowed without keys, bad options. */
export async function createServer(engine: Engine, options: ServerOptions = {}): Promise<LongmindServer> {
  const { timing, version = '0' } = options;
  const { config, keys } = checkServerOptions(options);
  const { info } = engine;
  const toolStyle = info.toolCalls ?? { format: 'hermes', known: false };
  const ctx: ServerContext = {
    engine,
    models: new ServedNames(
      config.servedModelName,
      info.modelName,
      info.adapters?.map((a) => a.name),
    ),
    created: Math.floor(Date.now() / 1000),
    systemFingerprint: `longmind-${info.quantisation}-${info.device.name}`.replace(/\s+/g, '_'),
    keys,
    inFlight: new InFlight(),
    metrics: new ServerMetrics(),
    requests: new RequestLog(),
    tracing: null,
    timing: { ...defaultTiming, ...timing },
    maxPriority: config.maxPriority,
    turns: new Turns(),
    grammars: new Grammars(),
    toolStyle,
    toolTags: await tagTokens(engine, toolStyle.format),
    reserved: new ReservedNames(),
    conversations: new Conversations({ max: config.maxConversations }),
    draining: false,
    onDrain: [],
  };
  const app = buildApp(ctx, config, version);
  const { otlpEndpoint: endpoint } = config;
  if (endpoint) {
    const onProblem = (problem: string) => app.log.warn({ problem }, 'a problem of the traces');
    const tracing = await openTracing({ endpoint, version, model: ctx.models.first, onProblem });
    ctx.tracing = tracing;
    ctx.requests.onEnd((record) => tracing.trace(record));
  }
  try {
    if (config.conversationStore) ctx.conversations = await openConversations(config, (p) => app.log.error(p));
    await app.listen({ host: config.serverName, port: config.serverPort });
  } catch (error) {
    await Promise.all([app.close(), ctx.tracing?.close(), ctx.conversations.close()]);
    if (error instanceof LongmindError) throw error;
    throw listenError(error as NodeJS.ErrnoException, config.serverName, config.serverPort);
  }
  engine.onProblem((problem) => app.log.error({ problem }, 'a problem of the engine'));
  const { port } = app.server.address() as { port: number };

  let closing: Promise<void> | null = null;
  const close = async (drainMs: number): Promise<void> => {
    ctx.draining = true;
    for (const end of ctx.onDrain) end();
    if (!(await ctx.inFlight.idle(drainMs))) {
      ctx.inFlight.abortAll();
      await ctx.inFlight.idle(LAST_WORDS_MS);
    }
    const closed = app.close();
    app.server.closeAllConnections();
    await Promise.all([closed, ctx.grammars.close()]);
    // after the last requests have ended
    await Promise.all([ctx.tracing?.close(), ctx.conversations.close()]);
  };
  const server: LongmindServer = {
    url: `http://${urlHost(config.serverName)}:${port}`,
    port,
    modelName: ctx.models.first,
    close: ({ drainMs = config.drainSeconds * 1000 } = {}) => {
      closing ??= close(drainMs);
      return closing;
    },
    [Symbol.asyncDispose]: () => server.close({ drainMs: 0 }),
  };
  return server;
}

/** In a folder, or in a store that several servers share. */
async function openConversations(
  { maxConversations: max, conversationStore: place, conversationLease }: ServerConfig,
  onProblem: (problem: string) => void,
): Promise<ConversationKeeper> {
  const address = storeAddress(place);
  if (address === null) {
    const { store, recovered } = openFolder(place);
    return new Conversations({ max }, store, recovered);
  }
  const store = await openStore(address, 'conversations');
  store.onProblem = onProblem;
  return new SharedConversations(store, max, 1000 * conversationLease);
}

/** An address that a client on this machine can use. */
function urlHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
