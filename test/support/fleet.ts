/** Servers with the bundled model that share a session store, in this process. */
import type { TestContext } from 'node:test';
import { type StoreServer, startRedis } from '../../bench/store-servers.js';
import { memoServer } from './memo-server.js';

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: what the API says
  body: any;
}

export interface Replica {
  url: string;
  engine: Awaited<ReturnType<typeof memoServer>>['engine'];
  ask(path: string, body: object): Promise<Answer>;
  get(path: string): Promise<Answer>;
  delete(path: string): Promise<Answer>;
}

const read = async (response: Response): Promise<Answer> => {
  const { status, headers } = response;
  return { status, headers, body: await response.json() };
};

export async function ask(url: string, path: string, body: object): Promise<Answer> {
  const headers = { 'content-type': 'application/json' };
  return read(await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) }));
}

async function replica(
  t: Pick<TestContext, 'after'>,
  store: StoreServer,
  options: Record<string, string | number> = {},
): Promise<Replica> {
  const place = store.address;
  const engine = { sessionStore: place, sessionLease: 1, threads: 1, ...options };
  const rig = await memoServer(engine, { conversationStore: place, conversationLease: 1 });
  t.after(() => rig[Symbol.asyncDispose]());
  return {
    ...rig,
    ask: (path, body) => ask(rig.url, path, body),
    get: async (path) => read(await fetch(rig.url + path)),
    delete: async (path) => read(await fetch(rig.url + path, { method: 'DELETE' })),
  };
}

/** `n` servers on one Redis. */
export async function fleet(t: TestContext, n = 2, start: () => Promise<StoreServer> = startRedis) {
  const store = await start();
  t.after(() => store.close());
  const replicas = await Promise.all(Array.from({ length: n }, () => replica(t, store)));
  return { store, replicas };
}

export const say = (content: string) => [{ role: 'user', content }];
export const textOf = ({ body }: Answer): string => body.choices[0].message.content;
