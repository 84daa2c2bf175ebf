export type { FoundNode } from './disk-scan.js';
export { DiskTier } from './disk-tier.js';
export { Mover } from './mover.js';
