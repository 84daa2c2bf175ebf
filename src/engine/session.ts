/** A named conversation, and the turns of it that have names. */
import type { SequenceId } from '../cache/types.js';
import type { Checkpoint, ForkOrigin } from '../types.js';

export interface Session {
  id: string;
  owner: number;
  /** Index of the adapter that it speaks with, or -1. */
  adapter: number;
  sequence: SequenceId;
  busy: boolean;
  lastUsed: number;
  /** The session that it was forked from, and how many of its tokens it took. Not in the journal. */
  forkedFrom: ForkOrigin | null;
  /** Turns that can be gone on from by a name, in order. */
  points: Point[];
  /** It is there for these alone: nobody named it. */
  ofPoints: boolean;
}

/** As it is kept; `start` follows from the one before it. */
export type Point = Omit<Checkpoint, 'start'> & { session: Session };
export type PointData = Omit<Point, 'session'>;
