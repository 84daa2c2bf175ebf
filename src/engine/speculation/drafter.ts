/** What guesses beside the text itself, as the speculator sees it. */
import type { LiveRequest } from '../request.js';

/** With more sequences in the batch a step of the large model is shared by so many that drafting does not pay. */
export const MAX_DRAFTING = 4;

/** What is to be guessed for a sequence, and the guess. */
export interface Want {
  r: LiveRequest;
  /** Tokens asked for. */
  count: number;
  /** Known tokens of the sequence; the guess follows them. */
  known: number;
  tokens: number[];
  /** The guess is whole. */
  done: boolean;
}

export interface Drafter {
  /** Chance that the first token of a guess is right, over all requests: what a new one begins with. */
  readonly chance: number;
  /** Milliseconds that one token more of all guesses takes; 0 before it was measured. */
  readonly tokenMs: number;
  /** A guess was right or wrong in a token. */
  learn(right: boolean): void;
  /** Makes the guesses, all together. One that has a long history to read first is not done yet, and goes on next time. */
  propose(wants: readonly Want[], history: (r: LiveRequest) => Int32Array): void;
}
