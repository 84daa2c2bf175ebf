export {
  type CompareOptions,
  type CompareResult,
  compareSessions,
  type OpenEngine,
} from './compare.js';
export { compareDisk, type DiskOptions, type DiskResult } from './disk.js';
export { compareJournal, type JournalOptions, type JournalResult } from './journal.js';
export type { LoadOptions } from './load.js';
export { runSessions, type SessionsOptions, type SessionsResult } from './play.js';
export { type SweepOptions, type SweepResult, sweepSessions } from './sweep.js';
