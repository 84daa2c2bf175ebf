/** Opens a store by its address. The clients are not among longmind's dependencies: each is loaded when it is asked for. */
import { readFileSync } from 'node:fs';
import { isStoreAddress } from '../config.js';
import { errors } from '../errors.js';
import { MeasuredStore } from './measured.js';
import { PostgresStore } from './postgres.js';
import { RedisStore } from './redis.js';

export { type Held, isAway, Leases } from './leases.js';
export type { MeasuredStore } from './measured.js';
export type * from './types.js';

/**
 * The address of a store that several servers share, itself or in a file ('@FILE'); null: it is a folder.
 * @throws io_error, invalid_option
 */
export function storeAddress(store: string): string | null {
  if (isStoreAddress(store)) return store;
  if (!store.startsWith('@')) return null;
  let address: string;
  try {
    address = readFileSync(store.slice(1), 'utf8').trim();
  } catch (e) {
    throw errors.io('reading --session-store', (e as Error).message);
  }
  // what it holds may be a secret
  if (!isStoreAddress(address) || !URL.canParse(address))
    throw errors.invalidOption('sessionStore', store, 'a file that holds one address: redis://… or postgres://…');
  return address;
}

export interface StoreFinding {
  ok: boolean;
  detail: string;
}

/** Whether a store answers, and keeps what it says it keeps. Never rejects, but for an address that is none. */
export async function examineStore(address: string): Promise<StoreFinding> {
  const store = await openStore(address, 'doctor');
  try {
    const about = await store.about();
    const weakness = await store.weakness();
    return { ok: weakness === null, detail: weakness === null ? about : `${about}: ${weakness}` };
  } catch (e) {
    return { ok: false, detail: store.failure ?? (e as Error).message };
  } finally {
    await store.close();
  }
}

/**
 * Never waits for the server: one that is away is tried again. `namespace`: sessions of another model mean nothing.
 * @throws store_package_missing
 */
export async function openStore(address: string, namespace: string): Promise<MeasuredStore> {
  const { host, pathname } = new URL(address);
  const isRedis = address.startsWith('redis');
  // never with the password
  const place = `${isRedis ? 'Redis' : 'PostgreSQL'} at ${host}${pathname}`;
  const store = isRedis
    ? new RedisStore(await load('@redis/client', () => import('@redis/client')), address, namespace)
    : new PostgresStore((await load('pg', () => import('pg'))).default, address, namespace);
  return new MeasuredStore(store, place);
}

async function load<T>(name: string, importing: () => Promise<T>): Promise<T> {
  try {
    return await importing();
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw e;
    throw errors.storePackageMissing(name);
  }
}
