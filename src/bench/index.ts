export { type RecallOptions, type RecallResult, runRecall } from './recall.js';
export { runSessions, type SessionsOptions, type SessionsResult } from './sessions.js';
