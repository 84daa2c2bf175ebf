/** Matchers of constrained requests. Masks are kept with a grammar, so the same one of an earlier request is used again. */

import { createMatcher, type Grammar, type Matcher } from 'longmind-grammar';
import { errors } from '../errors.js';
import type { Admission } from './admission.js';
import type { EngineRequest } from './request.js';

/** Null for a request that may say anything. */
export function openMatcher(
  { limits, grammarStart }: EngineRequest,
  grammar: Grammar | null,
  { tokenBytes, endOfTurn }: Pick<Admission, 'tokenBytes' | 'endOfTurn'>,
): Matcher | null {
  if (!grammar) return null;
  if (limits.ignoreEos) throw errors.invalidRequest('a constrained answer ends by itself: ignoreEos must be off');
  return createMatcher(grammar, tokenBytes, [...endOfTurn], grammarStart);
}
