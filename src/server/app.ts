/** The fastify app: limits, keys, CORS, request ids, error shapes, logs. Routes are in routes/. */
import { randomUUID } from 'node:crypto';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, LogController } from 'fastify';
import type { ServerConfig } from '../index.js';
import { errors } from '../index.js';
import { hostName, isLoopback } from './auth.js';
import type { ServerContext } from './context.js';
import { errorBody, schemaError, serverErrors, toLongmindError } from './errors.js';
import { type RouteList, watchRoutes } from './openapi.js';
import { conversationRoutes } from './routes/conversations.js';
import { dashboardRoutes } from './routes/dashboard.js';
import { embeddingsRoutes } from './routes/embeddings.js';
import { generationRoutes } from './routes/generation.js';
import { infoRoutes } from './routes/info.js';
import { messagesRoutes } from './routes/messages.js';
import { ollamaRoutes } from './routes/ollama.js';
import { requestRoutes } from './routes/requests.js';
import { responsesRoutes } from './routes/responses.js';
import { sessionRoutes } from './routes/sessions.js';
import { buildValidator } from './validators.js';

/** Milliseconds between two looks at who is too slow (Node's own 30 s would add as much to every limit). */
const LOOK_MS = 1_000;
/** An idle connection is closed after this. */
const KEEP_ALIVE_MS = 30_000;
/** What 429 answers suggest: about the time one waiting request needs to be admitted. */
const RETRY_AFTER_MS = 1_000;

export function buildApp(ctx: ServerContext, config: ServerConfig, version: string): FastifyInstance {
  const app = Fastify({
    bodyLimit: config.maxBodyBytes,
    requestTimeout: Math.max(1, ctx.timing.requestMs - LOOK_MS),
    keepAliveTimeout: KEEP_ALIVE_MS,
    http: { headersTimeout: Math.max(1, ctx.timing.headersMs - LOOK_MS), connectionsCheckingInterval: LOOK_MS },
    return503OnClosing: false,
    forceCloseConnections: false,
    requestIdHeader: false,
    genReqId: (raw) => requestId(raw.headers['x-request-id']),
    logger: config.logLevel === 'silent' ? false : { level: config.logLevel, stream: process.stderr },
    logController: new LogController({ disableRequestLogging: true }),
    routerOptions: { maxParamLength: 1024 },
    schemaController: { compilersFactory: { buildValidator } },
    ajv: {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        allErrors: false,
        verbose: true,
      },
      onCreate: (ajv) => void ajv.addVocabulary(['tags', 'summary', 'hide']),
    },
    schemaErrorFormatter: schemaError,
    clientErrorHandler: (error, socket) => refuseBytes(error as NodeJS.ErrnoException, socket),
  });
  app.server.maxConnections = config.maxConnections;
  // a browser may send text/plain to another site without asking first; JSON it may not
  app.removeContentTypeParser(['text/plain', 'application/json']);
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    (_request: FastifyRequest, body: string | Buffer) => parseJson(String(body)),
  );
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.decorateRequest('owner', 0);
  const routes = watchRoutes(app);
  addHooks(app, ctx, config, routes);
  addErrorHandler(app, ctx, config);
  generationRoutes(app, ctx);
  responsesRoutes(app, ctx);
  conversationRoutes(app, ctx);
  messagesRoutes(app, ctx);
  embeddingsRoutes(app, ctx);
  ollamaRoutes(app, ctx, version);
  sessionRoutes(app, ctx);
  requestRoutes(app, ctx);
  dashboardRoutes(app, ctx);
  infoRoutes(app, ctx, () => routes.document('longmind', version));
  return app;
}

/** '__proto__' is a field like any other here, and the schemas refuse it; an empty body is a missing one. */
async function parseJson(body: string): Promise<unknown> {
  if (body === '') return undefined;
  try {
    return JSON.parse(body);
  } catch (error) {
    // without the excerpt of the body that V8 adds
    throw errors.invalidJson((error as Error).message.replace(/, (\.\.\.)?".*$/s, ''));
  }
}

const requestId = (given: string | string[] | undefined): string =>
  typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : `req-${randomUUID()}`;

function addHooks(app: FastifyInstance, ctx: ServerContext, config: ServerConfig, routes: RouteList): void {
  const localOnly = isLoopback(config.serverName) && !ctx.keys.required;
  app.addHook('onRequest', async (request, reply) => {
    // a drain waits for what was there before it
    if (ctx.draining) reply.header('connection', 'close');
    else ctx.inFlight.opened(reply.raw);
    reply.header('x-request-id', request.id);
    const preflight = cors(config.allowOrigins, request, reply);
    if (preflight) return reply.code(204).send();
    if (localOnly && !isLoopback(hostName(request.headers.host))) throw serverErrors.forbiddenHost();
    const { open, errorForm } = request.routeOptions.config;
    // the name by which Anthropic's clients look for it
    if (errorForm) reply.header('request-id', request.id);
    if (open) return;
    request.owner = ctx.keys.owner(request.headers);
    if (ctx.draining) throw errors.engineClosed();
    // before the body is read
    if (request.is404) throw noRoute(request, reply, routes);
    await ctx.turns.own();
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none';
    ctx.metrics.httpRequests.inc({ route, method: request.method, status: String(reply.raw.statusCode) });
    const path = request.url.split('?')[0];
    const ms = Math.round(reply.elapsedTime);
    request.log.info({ method: request.method, path, status: reply.raw.statusCode, ms }, 'request');
  });
}

function noRoute(request: FastifyRequest, reply: FastifyReply, routes: RouteList): Error {
  const path = request.url.split('?')[0]!;
  const methods = routes.methodsOf(path);
  if (methods.length === 0) return serverErrors.noRoute(request.method, path);
  reply.header('allow', methods.join(', '));
  return serverErrors.wrongMethod(request.method, path);
}

/** True for a preflight that has been allowed. Origins that are not listed get no CORS header, and so no answer in a browser. */
function cors(allowed: readonly string[], request: FastifyRequest, reply: FastifyReply): boolean {
  const { origin } = request.headers;
  if (!origin || !(allowed.includes(origin) || allowed.includes('*'))) return false;
  reply.header('access-control-allow-origin', allowed.includes(origin) ? origin : '*');
  reply.header('vary', 'Origin');
  reply.header('access-control-expose-headers', 'x-request-id, retry-after, retry-after-ms, x-session-kept');
  if (request.method !== 'OPTIONS' || !request.headers['access-control-request-method']) return false;
  reply.header('access-control-allow-methods', 'GET, POST, DELETE');
  // official clients send a dozen x-stainless-* headers: allow what is asked for
  reply.header('access-control-allow-headers', request.headers['access-control-request-headers'] ?? '*');
  reply.header('access-control-max-age', '600');
  return true;
}

function addErrorHandler(app: FastifyInstance, ctx: ServerContext, config: ServerConfig): void {
  app.setErrorHandler((error, request, reply) => {
    const known = toLongmindError(error, config.maxBodyBytes);
    // a drain is no failure: whoever asks meanwhile is told so
    if (ctx.draining && known.code === 'engine_closed') request.log.info({ code: known.code }, 'refused in a drain');
    else if (known.status >= 500) {
      request.log.error({ code: known.code, err: error }, 'request failed');
    }
    const wait = known.retryAfterMs ?? (known.status === 429 ? RETRY_AFTER_MS : null);
    if (wait !== null) {
      reply.header('retry-after', String(Math.ceil(wait / 1000)));
      reply.header('retry-after-ms', String(Math.ceil(wait)));
    }
    if (known.status === 401) reply.header('www-authenticate', 'Bearer');
    const { errorForm = errorBody } = request.routeOptions.config;
    return reply.code(known.status).send(errorForm(known, request.id));
  });
}

/** Bytes that are not HTTP, or headers that are too long or too slow: a short answer, and the connection is closed. */
function refuseBytes(error: NodeJS.ErrnoException, socket: import('node:net').Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : '400 Bad Request';
  const body = JSON.stringify(errorBody(errors.invalidRequest(`this is not a request we can read (${error.code})`)));
  socket.write(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `connection: close\r\n\r\n${body}`,
  );
  // not only our half: who never ends his would keep the connection
  socket.destroySoon();
}
