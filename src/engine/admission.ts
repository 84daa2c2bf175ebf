/** What happens when a request arrives: all checks first, then its sequence. Refusals leave everything as it was. */
import type { CacheManager, SequenceId } from '../cache/types.js';
import { DEFAULT_MAX_TOKENS } from '../config.js';
import { errors } from '../errors.js';
import type { TokenBytes } from '../types.js';
import { type Alignment, alignHistory } from './align.js';
import { type EngineRequest, LiveRequest, TokenHistory } from './request.js';
import type { Sessions, SessionsOptions } from './sessions.js';
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
  { admission: a, sessions: { shareAcrossOwners } }: { admission: Admission; sessions: SessionsOptions },
  arrival: number,
): LiveRequest {
  const session = request.sessionId === null ? null : sessions.find(request.sessionId, request.owner);
  if (session?.busy) throw errors.sessionBusy(session.id);
  const kept = session ? cache.known(session.sequence) : 0;
  const tokens = kept > 0 && request.continuation ? request.continuation : request.tokens;
  checkTokens(tokens, 'prompt', a.vocab);
  checkTokens(request.stopTokens, 'stopTokens', a.vocab);
  checkTokens(Object.keys(request.sampling.logitBias).map(Number), 'logitBias', a.vocab);
  const { keep, from } = session ? place(request, tokens, cache, session.sequence, kept, a) : { keep: 0, from: 0 };
  const known = keep + tokens.length - from;
  if (known === 0) throw errors.invalidRequest('the prompt is empty', 'prompt');
  const maxTokens = roomFor(request, known, cache);

  const live = (sequence: SequenceId, turn: Turn | null): LiveRequest => {
    const r = new LiveRequest(request, sequence, cache, arrival);
    r.turn = turn;
    r.maxTokens = maxTokens;
    r.promptTokens = r.known;
    if (r.usesPenalties) r.history = historyOf(cache, sequence);
    return r;
  };
  if (request.sessionId === null) {
    const sequence = cache.create({ owner: request.owner, shared: shareAcrossOwners });
    cache.append(sequence, tokens, from);
    return live(sequence, null);
  }
  const open = session ?? sessions.open(request.sessionId, request.owner);
  const turn = { session: open, opened: session === null, keep, replaced: tailOf(cache, open.sequence, keep) };
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
    const repeated = a.endOfTurn.has(tokens[0] ?? -1) && cache.tokenAt(sequence, kept - 1) === tokens[0];
    return { keep: kept, from: repeated ? 1 : 0 };
  }
  const common = cache.commonPrefix(sequence, tokens);
  if (common === kept || common === tokens.length) return { keep: common, from: common };
  const history = new Int32Array(kept - common);
  cache.readTokens(sequence, common, kept, history, 0);
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
