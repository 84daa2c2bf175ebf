/** Opens a store by its address. The clients are not among longmind's dependencies: each is loaded when it is asked for. */
import { errors } from '../errors.js';
import { MeasuredStore } from './measured.js';
import { PostgresStore } from './postgres.js';
import { RedisStore } from './redis.js';

export type { MeasuredStore } from './measured.js';
export type * from './types.js';

/** Whether a session store is an address, not a folder. */
export const isStoreAddress = (store: string): boolean => /^(rediss?|postgres(ql)?):\/\//.test(store);

/**
 * Never waits for the server: one that is away is tried again. `namespace`: sessions of another model mean nothing.
 * @throws invalid_option, store_package_missing
 */
export async function openStore(address: string, namespace: string): Promise<MeasuredStore> {
  if (!isStoreAddress(address) || !URL.canParse(address))
    throw errors.invalidOption('sessionStore', '…', 'a folder or an address');
  const { host, pathname } = new URL(address);
  const isRedis = address.startsWith('redis');
  const onError = () => {};
  // never with the password
  const place = `${isRedis ? 'Redis' : 'PostgreSQL'} at ${host}${pathname}`;
  const store = isRedis
    ? new RedisStore(await load('@redis/client', () => import('@redis/client')), address, namespace, onError)
    : new PostgresStore((await load('pg', () => import('pg'))).default, address, namespace, onError);
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
