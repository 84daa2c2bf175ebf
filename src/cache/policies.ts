import { AdaptivePolicy } from './adaptive.js';
import { LruPolicy } from './lru.js';
import type { BlockLinks, EvictionPolicy } from './policy.js';

export function createPolicy(name: 'lru' | 'adaptive', links: BlockLinks): EvictionPolicy {
  return name === 'lru' ? new LruPolicy(links) : new AdaptivePolicy(links);
}
