/** Benchmarks that the command line offers: `longmind bench NAME`. */
export { type CacheBenchOptions, type CacheBenchResult, runCacheBench as cache } from './cache.js';
export { type RecallOptions, type RecallResult, type RecallTurn, runRecall as recall } from './recall.js';
export { runSessions as sessions, type SessionsOptions, type SessionsResult } from './sessions.js';
export { runTraceBench as trace, type TraceBenchOptions, type TraceBenchResult } from './trace.js';
