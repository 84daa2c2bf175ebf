/** A server over a fake engine, and small HTTP helpers for tests. Everything is closed when the test ends. */
import type { TestContext } from 'node:test';
import { createServer, type LongmindServer, type ServerOptions } from '../../src/server/index.js';
import { FakeEngine, type FakeOptions } from './fake-engine.js';

export interface Rig {
  engine: FakeEngine;
  server: LongmindServer;
  url: string;
  post(path: string, body: unknown, headers?: Record<string, string>, signal?: AbortSignal): Promise<Response>;
  get(path: string, headers?: Record<string, string>): Promise<Response>;
}

export async function rig(t: TestContext, fake: FakeOptions = {}, options: ServerOptions = {}): Promise<Rig> {
  const engine = new FakeEngine(fake);
  const server = await createServer(engine, { serverPort: 0, logLevel: 'silent', ...options });
  t.after(async () => {
    await server.close({ drainMs: 0 });
    await engine.close();
  });
  return {
    engine,
    server,
    url: server.url,
    post: (path, body, headers = {}, signal) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        signal,
      }),
    get: (path, headers = {}) => fetch(server.url + path, { headers }),
  };
}

export const hello = [{ role: 'user', content: 'hello' }];

export interface ApiError {
  error: { message: string; type: string; param: string | null; code: string };
}

export async function errorOf(response: Response): Promise<ApiError['error']> {
  return ((await response.json()) as ApiError).error;
}

export interface Chunk {
  id: string;
  object: string;
  choices: {
    index: number;
    delta?: { role?: string; content?: string };
    text?: string;
    logprobs: { content: { token: string }[] } | null;
    finish_reason: string | null;
  }[];
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number } | null;
  error?: ApiError['error'];
}

/** The data lines of an event stream, parsed; '[DONE]' stays a string. */
export function eventsOf(text: string): (Chunk | '[DONE]')[] {
  return text
    .split('\n\n')
    .filter((part) => part.startsWith('data: '))
    .map((part) => (part === 'data: [DONE]' ? '[DONE]' : (JSON.parse(part.slice(6)) as Chunk)));
}

export async function until(what: string, condition: () => boolean, ms = 5_000): Promise<void> {
  const end = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
