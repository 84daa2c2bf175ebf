/**
 * The load of the sessions benchmark, decided beforehand: who speaks when and what is said. So every mode, capacity and
 * policy sees the same conversations, and equal digests of the answers mean that none of them changed a token.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Engine } from '../../types.js';
import { uniform, zipf } from '../random.js';

export interface LoadOptions {
  sessions: number;
  /** Turns in all = sessions × turns, dealt out by `arrivals`. */
  turns: number;
  /** Who speaks next. */
  arrivals: 'zipf' | 'uniform' | 'round-robin';
  /** Clients that each wait for their answer (closed loop); ignored with `rate`. */
  clients: number;
  /** Poisson arrivals, turns per second; 0 = closed loop. */
  rate: number;
  /** Tokens a user says each turn, drawn from [min, max]; tokens answered. */
  said: [number, number];
  answered: number;
  seed: number;
}

export interface Turn {
  session: number;
  /** Index among the session's turns. */
  index: number;
  /** From 1 within its conversation. */
  number: number;
  /** Tokens of the conversation before this turn. */
  history: number;
  /** Token ids of the user. */
  said: number[];
  /** Tokens to be answered. */
  answered: number;
}

export interface Load {
  options: LoadOptions;
  sessionLen: number;
  /** In the order in which they should be spoken. */
  turns: Turn[];
  /** (sessions) tokens of the longest conversation that a session ever has. */
  peaks: number[];
  /** Tokens of each conversation that ended because it was too long. */
  ended: number[];
}

/** A conversation that would outgrow `sessionLen` ends, and its session begins another. */
export function planLoad(o: LoadOptions, sessionLen: number, text: ArrayLike<number>): Load {
  const random = uniform(o.seed);
  const draw = zipf(o.sessions, o.arrivals === 'zipf' ? 1 : 0, random);
  const peaks = new Array<number>(o.sessions).fill(0);
  const ended: number[] = [];
  const state = Array.from({ length: o.sessions }, (_, s) => ({
    history: 0,
    number: 0,
    index: 0,
    random: uniform(o.seed * 7919 + s + 1),
  }));
  const turns = Array.from({ length: o.sessions * o.turns }, (_, i): Turn => {
    const session = o.arrivals === 'round-robin' ? i % o.sessions : draw();
    const c = state[session]!;
    const count = o.said[0] + Math.floor(c.random() * (o.said[1] - o.said[0] + 1));
    const at = Math.floor(c.random() * text.length);
    const said = Array.from({ length: count }, (_, k) => text[(at + k) % text.length]!);
    if (c.history + count + o.answered + 1 > sessionLen) {
      if (c.history > 0) ended.push(c.history);
      c.history = 0;
      c.number = 0;
    }
    const turn = { session, index: c.index++, number: ++c.number, history: c.history, said, answered: o.answered };
    c.history += count + o.answered;
    peaks[session] = Math.max(peaks[session]!, c.history);
    return turn;
  });
  return { options: o, sessionLen, turns, peaks, ended };
}

const blocksOf = (lengths: readonly number[], blockLen: number) =>
  lengths.reduce((sum, tokens) => sum + Math.ceil(tokens / blockLen), 0);

/** Blocks that hold every session at its longest. */
export function blocksForAll(load: Load, blockLen: number): number {
  return blocksOf(load.peaks, blockLen);
}

/** Blocks with which nothing is ever evicted, what the ended conversations and the warm-up left included. */
export function blocksForEverything(load: Load, blockLen: number): number {
  const ahead = load.options.clients; // admission looks a block ahead
  return blocksOf([...load.peaks, ...load.ended, WARM_UP], blockLen) + ahead + 1;
}

/** Blocks that the largest single request can need, and one for the rule that admission looks a block ahead. */
export function blocksForOne(load: Load, blockLen: number): number {
  return Math.ceil(Math.max(...load.peaks) / blockLen) + 1;
}

/** Tokens of the request before the measurement, at most. */
export const WARM_UP = 512;

/** What the users say is cut from prose that comes with the package. */
const PROSE = ['README.md', 'ARCHITECTURE.md'];

export async function proseTokens(engine: Pick<Engine, 'encode'>): Promise<Int32Array> {
  const files = PROSE.map((name) => fileURLToPath(new URL(`../../../../${name}`, import.meta.url)));
  return engine.encode(files.map((f) => readFileSync(f, 'utf8')).join('\n'));
}
