export {
  type CompareOptions,
  type CompareResult,
  type CompareRow,
  compareSessions,
  type OpenEngine,
  type OpenOptions,
} from './compare.js';
export { compareJournal, type JournalOptions, type JournalResult } from './journal.js';
export type { LoadOptions } from './load.js';
export { type Quantiles, runSessions, type SessionsOptions, type SessionsResult } from './play.js';
export { type SweepOptions, type SweepPoint, type SweepResult, sweepSessions } from './sweep.js';
