/** What happens when a request arrives: all checks first, then its sequence. Refusals leave everything as it was. */
import type { CacheManager, SequenceId } from '../cache/types.js';
import { DEFAULT_MAX_TOKENS } from '../config.js';
import { errors } from '../errors.js';
import type { TokenBytes } from '../types.js';
import { type Alignment, alignHistory } from './align.js';
import { type EngineRequest, LiveRequest, TokenHistory } from './request.js';
import type { Session, Sessions } from './sessions.js';
import { install } from './shared/kept.js';
import { type Turn, tailOf, undoTurn } from './turn.js';

export interface Admission {
  vocab: number;
  tokenBytes: TokenBytes;
  /** Tokens that end a turn: an appended turn repeats the one before it. */
  endOfTurn: ReadonlySet<number>;
}

export function admit(
  request: EngineRequest,
  cache: CacheManager,
  sessions: Sessions,
  a: Admission,
  arrival: number,
): LiveRequest {
  if (request.shared) install(request.shared, request.owner, sessions, cache, a.vocab);
  if (request.after) return goOn(request, request.after, cache, sessions, a, arrival);
  const session = request.sessionId === null ? null : sessions.find(request.sessionId, request.owner);
  if (session?.busy) throw errors.sessionBusy(session.id);
  const held = session ? cache.known(session.sequence) : 0;
  const kept = request.sessionLength ?? held;
  if (kept > held) throw errors.sessionTooShort(request.sessionId!, held, kept, 'session_length');
  const tokens = kept > 0 && request.continuation ? request.continuation : request.tokens;
  checkTokens(tokens, 'prompt', a.vocab);
  checkTokens(request.stopTokens, 'stopTokens', a.vocab);
  checkTokens(Object.keys(request.sampling.logitBias).map(Number), 'logitBias', a.vocab);
  const adapter = adapterOf(request, session, sessions);
  const { keep, from } = session ? place(request, tokens, cache, session.sequence, kept, a) : { keep: 0, from: 0 };
  const known = keep + tokens.length - from;
  if (known === 0) throw errors.invalidRequest('the prompt is empty', 'prompt');
  const maxTokens = roomFor(request, known, cache);

  const live = (sequence: SequenceId, turn: Turn | null) =>
    liveOf(request, sequence, cache, arrival, maxTokens, turn, adapter);
  if (request.sessionId === null) {
    // of a mean every token must be computed
    const alone = request.embed === 'mean';
    const sequence = sessions.createSequence(request.owner, adapter, alone);
    cache.append(sequence, tokens, from);
    return live(sequence, null);
  }
  const open = session ?? sessions.open(request.sessionId, request.owner, adapter);
  if (session === null) open.ofPoints = request.keepAs?.name === request.sessionId;
  const replaced = tailOf(cache, open.sequence, keep);
  const turn = { session: open, opened: session === null, keep, replaced, inherited: [] };
  try {
    cache.truncate(open.sequence, keep);
    cache.append(open.sequence, tokens, from);
  } catch (e) {
    undoTurn(turn, cache, sessions);
    throw e;
  }
  sessions.use(open, true);
  return live(open.sequence, turn);
}

function liveOf(
  request: EngineRequest,
  sequence: SequenceId,
  cache: CacheManager,
  arrival: number,
  maxTokens: number,
  turn: Turn | null,
  adapter: number,
): LiveRequest {
  const r = new LiveRequest(request, sequence, cache, arrival);
  r.adapter = adapter;
  r.turn = turn;
  r.maxTokens = maxTokens;
  r.promptTokens = r.known;
  if (r.usesPenalties) r.history = historyOf(cache, sequence);
  return r;
}

/**
 * Goes on from a checkpoint: in its session where it is the last turn and the new one is to be kept too; else in a branch,
 * which is a session if it is to be kept.
 */
function goOn(
  r: EngineRequest,
  after: string,
  cache: CacheManager,
  sessions: Sessions,
  a: Admission,
  arrival: number,
): LiveRequest {
  const point = sessions.point(after, r.owner);
  const { session, end } = point;
  const adapter = adapterOf(r, session, sessions);
  const tokens = r.continuation ?? r.tokens;
  checkTokens(tokens, 'prompt', a.vocab);
  checkTokens(r.stopTokens, 'stopTokens', a.vocab);
  checkTokens(Object.keys(r.sampling.logitBias).map(Number), 'logitBias', a.vocab);
  const from = repeatsEnd(tokens, cache, session.sequence, end, a) ? 1 : 0;
  const maxTokens = roomFor(r, end + tokens.length - from, cache);
  sessions.points.use(point);
  if (!r.keepAs) {
    const sequence = sessions.branchSequence(session, end);
    cache.append(sequence, tokens, from);
    return liveOf(r, sequence, cache, arrival, maxTokens, null, adapter);
  }
  const own = !session.busy && !(r.shared && 'branch' in r.shared && r.shared.branch);
  const last = own && session.ofPoints && session.points.at(-1) === point;
  const inherited = last ? [] : sessions.points.path(point).map(({ session: _, ...p }) => ({ ...p, name: '' }));
  const open = last ? session : sessions.branch(r.keepAs.name, point);
  const replaced = last ? tailOf(cache, open.sequence, end) : new Int32Array(0);
  // a branch is written from its beginning on
  const turn: Turn = { session: open, opened: !last, keep: last ? end : 0, replaced, inherited };
  try {
    cache.truncate(open.sequence, end);
    cache.append(open.sequence, tokens, from);
  } catch (e) {
    undoTurn(turn, cache, sessions);
    throw e;
  }
  sessions.use(open, true);
  return liveOf(r, open.sequence, cache, arrival, maxTokens, turn, adapter);
}

/** A session keeps the adapter that it began with. @throws session_adapter */
function adapterOf({ adapter }: EngineRequest, session: Session | null, sessions: Sessions): number {
  if (!session) return adapter ?? -1;
  if (adapter == null || adapter === session.adapter) return session.adapter;
  throw errors.sessionAdapter(session.id, sessions.adapterName(session.adapter), sessions.adapterName(adapter));
}

/** An appended turn begins with the end of the one before it, which may stand there already. */
const repeatsEnd = (tokens: Int32Array, cache: CacheManager, sequence: SequenceId, kept: number, a: Admission) =>
  a.endOfTurn.has(tokens[0] ?? -1) && cache.tokenAt(sequence, kept - 1) === tokens[0];

/** Where the tokens go: after what the session holds, or over it from the first difference on. */
function place(
  r: EngineRequest,
  tokens: Int32Array,
  cache: CacheManager,
  sequence: SequenceId,
  kept: number,
  a: Admission,
): Alignment {
  if (r.continuation && kept > 0) {
    return { keep: kept, from: repeatsEnd(tokens, cache, sequence, kept, a) ? 1 : 0 };
  }
  const common = cache.commonPrefix(sequence, tokens);
  const held = cache.known(sequence);
  if (common === held || common === tokens.length) return { keep: common, from: common };
  const history = new Int32Array(held - common);
  cache.readTokens(sequence, common, held, history, 0);
  const rest = alignHistory(history, tokens.subarray(common), a.tokenBytes);
  return { keep: common + rest.keep, from: common + rest.from };
}

/** Every id that comes from outside: the device refuses a whole step for one that it does not have. */
function checkTokens(tokens: ArrayLike<number>, param: string, vocab: number): void {
  for (let i = 0; i < tokens.length; i++) {
    const t = tokens[i]!;
    if (!(t >= 0 && t < vocab))
      throw errors.invalidRequest(`token id ${t} is not in the vocabulary of ${vocab} tokens`, param);
  }
}

/** Tokens it may generate; refuses what cannot fit even alone. */
function roomFor(r: EngineRequest, known: number, cache: CacheManager): number {
  const { sessionLen, blocks, blockLen } = cache.config;
  if (known >= sessionLen) throw errors.promptTooLong(known, sessionLen);
  // the last token that is drawn needs no KV
  const capacity = Math.min(sessionLen, blocks * blockLen + 1);
  const wanted = r.limits.maxTokens;
  const total = known + (wanted === null ? 1 : Math.min(wanted, sessionLen - known));
  if (total > capacity) throw errors.neverFits(total, Math.ceil((total - 1) / blockLen), blocks, blockLen);
  return wanted === null ? Math.min(DEFAULT_MAX_TOKENS, capacity - known) : Math.min(wanted, sessionLen - known);
}

/** Tokens of the prompt count as seen (repetition penalty), not as generated (presence, frequency). */
function historyOf(cache: CacheManager, sequence: SequenceId): TokenHistory {
  const history = new TokenHistory();
  for (let i = 0; i < cache.known(sequence); i++) history.see(cache.tokenAt(sequence, i));
  return history;
}
