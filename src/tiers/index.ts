export { DiskTier } from './disk-tier.js';
export { Mover } from './mover.js';
export { Tiers, type TiersOptions } from './tiers.js';
