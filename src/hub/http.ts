/** HTTP GET with a connect timeout, redirects, and a token that never leaves its own origin. */
import http from 'node:http';
import https from 'node:https';

/** Milliseconds to connect, and to wait for the next bytes. */
const CONNECT_TIMEOUT = 5000;
const IDLE_TIMEOUT = 30_000;
const MAX_REDIRECTS = 8;

interface HttpRequest {
  method?: 'GET' | 'HEAD';
  headers?: Record<string, string>;
  /** Sent as a bearer token to the first origin only. */
  token?: string | null;
  signal?: AbortSignal;
}

export interface HttpResponse {
  status: number;
  /** Of the last answer. */
  headers: http.IncomingHttpHeaders;
  /** Of the first answer, which names a file's checksum before it redirects. */
  firstHeaders: http.IncomingHttpHeaders;
  body: http.IncomingMessage;
}

export async function request(address: string, options: HttpRequest): Promise<HttpResponse> {
  let url = new URL(address);
  const { origin } = url;
  let first: http.IncomingHttpHeaders | null = null;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const token = url.origin === origin ? (options.token ?? null) : null;
    const body = await send(url, options, token);
    first ??= body.headers;
    const status = body.statusCode ?? 0;
    const { location } = body.headers;
    if (status < 300 || status >= 400 || !location) return { status, headers: body.headers, firstHeaders: first, body };
    body.destroy();
    const next = new URL(location, url);
    if (url.protocol === 'https:' && next.protocol !== 'https:')
      throw new Error(`${url.host} redirects to an address without encryption`);
    url = next;
  }
  throw new Error(`${url.host} redirects more than ${MAX_REDIRECTS} times`);
}

function send(url: URL, options: HttpRequest, token: string | null): Promise<http.IncomingMessage> {
  options.signal?.throwIfAborted();
  const { request: open } = url.protocol === 'https:' ? https : http;
  return new Promise((resolve, reject) => {
    const req = open(url, {
      method: options.method ?? 'GET',
      headers: {
        'user-agent': 'longmind',
        ...options.headers,
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      },
      signal: options.signal,
      agent: false,
    });
    const timer = setTimeout(
      () => req.destroy(new Error(`${url.host} could not be connected within ${CONNECT_TIMEOUT / 1000} s`)),
      CONNECT_TIMEOUT,
    );
    const connected = url.protocol === 'https:' ? 'secureConnect' : 'connect';
    req.on('socket', (socket) => socket.once(connected, () => clearTimeout(timer)));
    req.setTimeout(IDLE_TIMEOUT, () => req.destroy(new Error(`${url.host} sent nothing for ${IDLE_TIMEOUT / 1000} s`)));
    req.on('error', (e) => {
      clearTimeout(timer);
      reject(options.signal?.aborted ? options.signal.reason : e);
    });
    req.on('response', (res) => {
      clearTimeout(timer);
      resolve(res);
    });
    req.end();
  });
}

/** The body as text, at most `limit` bytes of it. */
export async function readText(body: http.IncomingMessage, limit: number): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of body as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > limit) throw new Error(`an answer has more than ${limit} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

export const messageOf = (e: unknown): string => {
  const { code, message } = e as NodeJS.ErrnoException;
  if (e instanceof AggregateError) return e.errors.map(messageOf).join('; ');
  return message || code || String(e);
};
