import { greedySampling } from '../../../src/config.js';
import type { EngineRequest } from '../../../src/engine/request.js';

/** A greedy turn of four tokens in a session, for a vocabulary of 300. */
export function request(id: number, sessionId: string, said: number): EngineRequest {
  const tokens = Int32Array.from({ length: said }, (_, i) => (i * 31 + id * 7) % 300);
  const plain = { stopTokens: [], priority: 0, owner: 0, grammar: null, forkOf: null, sampling: greedySampling };
  const limits = { maxTokens: 4, minTokens: 0, stop: [], stopTokens: [], ignoreEos: true };
  return { id, tokens, sessionId, continuation: tokens, limits, ...plain };
}
