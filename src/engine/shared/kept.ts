/**
 * The engine's side of a session store that several servers share. What is here of a session is a copy: before each turn it
 * is made what the store has, and what a turn changed is told, for the store to take it.
 */
import type { CacheManager } from '../../cache/types.js';
import { errors, reviveError, type SerializedError } from '../../errors.js';
import type { Change, KeptSession } from '../../store/index.js';
import type { FinishReason } from '../../types.js';
import type { Session, Sessions } from '../sessions.js';
import type { Turn } from '../turn.js';

/** What a request brings of the store. */
export type Shared = KeptHere | StoreAway;

interface KeptHere {
  /** The session that the request goes on from: its own, or that of `after`. */
  id: string;
  /** As the store has it; null: it has nothing. */
  kept: KeptSession | null;
  /** It is not this request's to change: what is to be kept becomes a session of its own. */
  branch: boolean;
}

/** The store does not answer: what does not need it is answered, and not kept. */
interface StoreAway {
  /** A session that was kept before: then the request does need it. */
  unless: string;
  error: SerializedError;
}

/** What a turn changed of a session. */
export type TurnChange = Pick<Change, 'from' | 'ids' | 'adapter' | 'keepMarks' | 'marks'> & { id: string };

/**
 * The session here is what the store has; KV of the tokens that are the same stays.
 * @throws session_busy, adapter_not_found, io_error, and what restoring a session throws
 */
export function install(shared: Shared, owner: number, sessions: Sessions, cache: CacheManager, vocab: number): void {
  if ('unless' in shared) {
    if (sessions.find(shared.unless, owner)) throw reviveError(shared.error);
    return;
  }
  const { id, kept, branch } = shared;
  const here = sessions.find(id, owner);
  if (here?.busy) {
    if (branch) return;
    throw errors.sessionBusy(id);
  }
  if (!kept) {
    if (here) sessions.delete(id, owner);
    return;
  }
  if (!kept.ids.every((t) => t >= 0 && t < vocab))
    throw errors.io(`session '${id}' in the session store`, 'it has a token that is none of this model');
  const adapter = sessions.adapterIndex(kept.adapter, id);
  const same = here?.adapter === adapter;
  if (here && !same) sessions.delete(id, owner);
  const session = here && same ? follow(here, kept, cache) : sessions.restore(id, owner, kept.ids, adapter);
  setMarks(session, kept, sessions);
  sessions.boundCopies(session);
}

function follow(session: Session, { ids }: KeptSession, cache: CacheManager): Session {
  const { sequence } = session;
  const common = cache.commonPrefix(sequence, ids);
  if (common < cache.known(sequence)) cache.truncate(sequence, common);
  if (common < ids.length) cache.append(sequence, ids, common);
  return session;
}

function setMarks(session: Session, { marks }: KeptSession, { points }: Sessions): void {
  points.forget(session);
  session.ofPoints = marks.at(-1)?.own ?? false;
  for (const { own: _, finishReason, ...mark } of marks)
    points.add(session, { ...mark, finishReason: finishReason as FinishReason });
}

/** Of a turn that has ended. */
export function changeOf({ session, keep }: Turn, sessions: Sessions, cache: CacheManager): TurnChange {
  const { id, sequence, points, ofPoints: own } = session;
  const ids = new Int32Array(cache.known(sequence) - keep);
  cache.readTokens(sequence, keep, keep + ids.length, ids, 0);
  const keepMarks = points.filter((p) => p.end <= keep).length;
  const marks = points.slice(keepMarks).map(({ session: _, ...point }) => ({ ...point, own }));
  return { id, from: keep, ids, adapter: sessions.adapterName(session.adapter), keepMarks, marks };
}
