import { LruPolicy } from './lru.js';
import type { BlockLinks, EvictionPolicy } from './policy.js';

export function createPolicy(name: 'lru' | 'adaptive', links: BlockLinks): EvictionPolicy {
  void name;
  return new LruPolicy(links);
}
