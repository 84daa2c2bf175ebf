/** Sessions of an earlier process, as the journal has them: each is judged by itself, and a bad one costs itself only. */

import { LongmindError } from '../errors.js';
import type { SavedSession } from '../journal/journal.js';
import type { FinishReason } from '../types.js';
import type { Sessions } from './sessions.js';

/**
 * Restores what this engine can take. `impossible`: sessions with an id that is no token of this vocabulary, which no start
 * will take. Those that are too long for this engine, or of an adapter that it has not, stay where they are: another start
 * may take them.
 */
export function restoreSessions(
  saved: readonly SavedSession[],
  sessions: Sessions,
  vocab: number,
  sessionLen: number,
  adapters: readonly string[] = [],
): { impossible: SavedSession[] } {
  const impossible: SavedSession[] = [];
  for (const s of saved) {
    if (!s.ids.every((t) => t >= 0 && t < vocab)) impossible.push(s);
    else if (s.adapter !== null && !adapters.includes(s.adapter)) sessions.wait(s.sessionId, s.owner, s.adapter);
    else if (s.ids.length < sessionLen) restore(s, sessions, s.adapter === null ? -1 : adapters.indexOf(s.adapter));
  }
  return { impossible };
}

function restore({ sessionId, owner, ids, marks }: SavedSession, sessions: Sessions, adapter: number): void {
  try {
    const session = sessions.restore(sessionId, owner, ids, adapter);
    for (const { own, finishReason, ...mark } of marks) {
      session.ofPoints = own;
      sessions.keepPoint(session, { ...mark, finishReason: finishReason as FinishReason });
    }
  } catch (e) {
    // more tokens than are kept here (maxSessionTokens)
    if (!(e instanceof LongmindError)) throw e;
  }
}
