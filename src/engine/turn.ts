/** What a request changed of its session when it was admitted, and how a turn that fails is taken back. */
import type { CacheManager, SequenceId } from '../cache/types.js';
import { LongmindError } from '../errors.js';
import type { PointData } from './session.js';
import type { Session, Sessions } from './sessions.js';

export interface Turn {
  session: Session;
  /** It began with this turn. */
  opened: boolean;
  /** Known tokens that stayed as they were. */
  keep: number;
  /** Tokens after them that the turn replaced. */
  replaced: Int32Array;
  /** Turns that the session has from the one it branched from, if it began so. */
  inherited: PointData[];
}

/** Tokens of a sequence from `keep` on, which the turn is about to replace. */
export function tailOf(cache: CacheManager, sequence: SequenceId, keep: number): Int32Array {
  const tail = new Int32Array(cache.known(sequence) - keep);
  cache.readTokens(sequence, keep, keep + tail.length, tail, 0);
  return tail;
}

/**
 * The session is as it was before the turn: an appended turn that is tried again must not stand there twice. Its sequence
 * is out of the batch. Nothing of a turn is journalled before it ends, so nothing is to be written.
 */
export function undoTurn({ session, opened, keep, replaced }: Turn, cache: CacheManager, sessions: Sessions): void {
  if (sessions.find(session.id, session.owner) !== session) return;
  sessions.use(session, false);
  if (opened) {
    sessions.delete(session.id, session.owner);
    return;
  }
  cache.truncate(session.sequence, keep);
  try {
    cache.append(session.sequence, replaced);
  } catch (e) {
    // others that run took its room (maxSessionTokens): it keeps the common part, which the caller's history still matches
    if (!(e instanceof LongmindError)) throw e;
    sessions.changed(session, keep);
  }
}
