import { errors } from '../errors.js';
import { Manager } from './manager.js';
import type { CacheConfig, CacheManager } from './types.js';

export type {
  AdoptedNode,
  CacheConfig,
  CacheManager,
  CacheSnapshot,
  CacheStats,
  Probe,
  RestoreCost,
  SequenceId,
  SequenceState,
  TierConfig,
  TierOperations,
  TransferOrder,
} from './types.js';

/** Sequences and their block tables use integers of 31 bits; a sequence id leaves 2^26 records. */
const MAX_BLOCKS = 2 ** 27;

/** A cache of KV caches over `config.blocks` blocks. Throws a LongmindError for what cannot work. */
export function createCacheManager(config: CacheConfig): CacheManager {
  const whole = (name: keyof CacheConfig, low: number, high: number) => {
    const value = config[name];
    if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) {
      throw errors.invalidOption(name, value, `a whole number from ${low} to ${high}`);
    }
  };
  whole('blocks', 1, MAX_BLOCKS);
  whole('blockLen', 1, 2 ** 20);
  whole('sessionLen', 1, 2 ** 20);
  whole('chunkSize', -1, MAX_BLOCKS);
  whole('maxSequences', 1, 2 ** 26);
  const { host = 0, disk = 0, maxWrites = 8 } = config.tiers ?? {};
  for (const [name, value, low] of [
    ['host', host, 0],
    ['disk', disk, 0],
    ['maxWrites', maxWrites, 1],
  ] as const) {
    if (!Number.isInteger(value) || value < low || value > MAX_BLOCKS)
      throw errors.invalidOption(`tiers.${name}`, value, `a whole number from ${low} to ${MAX_BLOCKS}`);
  }
  if (!(config.maxTokens >= 1)) throw errors.invalidOption('maxTokens', config.maxTokens, 'at least 1');
  return new Manager(config);
}
