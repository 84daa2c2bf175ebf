/** Benchmarks that the command line offers: `longmind bench NAME`. */
export { type CacheBenchOptions, type CacheBenchResult, runCacheBench as cache } from './cache.js';
export { type PerplexityOptions, type PerplexityResult, runPerplexity as perplexity } from './perplexity.js';
export { type RecallOptions, type RecallResult, type RecallTurn, runRecall as recall } from './recall.js';
export {
  type CompareOptions,
  type CompareResult,
  compareDisk as sessionsDisk,
  compareJournal as sessionsJournal,
  compareSessions as sessionsCompare,
  type DiskOptions,
  type DiskResult,
  type JournalOptions,
  type JournalResult,
  type LoadOptions,
  type OpenEngine,
  runSessions as sessions,
  type SessionsOptions,
  type SessionsResult,
  type SweepOptions,
  type SweepResult,
  sweepSessions as sessionsSweep,
} from './sessions/index.js';
export { runTraceBench as trace, type TraceBenchOptions, type TraceBenchResult } from './trace.js';
