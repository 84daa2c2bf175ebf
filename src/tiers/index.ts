export type { DiskProgram } from './disk-tier.js';
export { type Disk, Mover, TierMemory } from './mover.js';
export { Tiers } from './tiers.js';
