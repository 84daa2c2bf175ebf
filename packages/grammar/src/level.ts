/** Where a document is in a grammar: a stack of Levels, each a set of alternatives. See network.ts. */
import { UNCOUNTED } from './types.js';

/** An item of a Level: state, group of the level below that called it, counters min and max, own call group. */
export const FIELDS = 5;
/** Levels, and places, that one network remembers. When there are more, it forgets all that nobody stands on. */
export const MAX_LEVELS = 8192;
const MAX_PLACES = 32_768;

/** What counts as known: things of an older generation are forgotten where they are met. */
export interface Memory {
  generation: number;
  levels: Map<string, Level>;
  places: number;
}

export function forget(memory: Memory): void {
  memory.generation++;
  memory.levels = new Map();
  memory.places = 0;
}

export interface Step {
  level: Level;
  /** Groups of the level below that remain, or null = all. */
  restrict: readonly number[] | null;
  /** When the byte enters a rule: what stays behind, below `level`. */
  caller: Level | null;
}

export class Level {
  /** By byte: undefined = not yet known, null = no way. */
  next: (Step | null | undefined)[] = new Array(256);
  /** Groups of the level below to which a rule that may end here returns. */
  readonly ends: readonly number[];
  readonly subsets = new Map<string, { level: Level; restrict: readonly number[] | null }>();
  /** The level with counters cut, that has the same mask. */
  capped: Level | null = null;
  /** Byte classes that leave this level as it is, but for counters; -1 = not yet known. See `Network.loops`. */
  loops = -1;
  /** By byte class: the level to which every byte of it leads; null = they differ. See `Network.runs`. */
  targets: (Level | null | undefined)[] = [];
  /** By set of classes: so many bytes of them may come in any order (at least), and so many may not. */
  readonly runs = new Map<number, { yes: number; no: number }>();

  constructor(
    /** FIELDS numbers an item, sorted, no duplicates. Groups of the level below are numbered without gaps. */
    readonly items: readonly number[],
    readonly signature: string,
    readonly groups: number,
    readonly shared: boolean,
    ends: readonly number[],
    /** The document may end in this level. */
    readonly done: boolean,
    /** Generation of what `next`, `subsets` and `capped` remember. */
    public generation: number,
  ) {
    this.ends = ends;
    for (let i = 3; i < items.length; i += FIELDS) this.room = Math.min(this.room, items[i]);
  }

  /** Characters that all items may still take. */
  readonly room: number = UNCOUNTED;
}

export class Place {
  /** Places one level higher, for reuse. */
  private above: Map<Level, Place> | null = null;
  private generation = 0;
  /** Allowed tokens that leave the top level; see masks.ts. */
  leaving: Int32Array | null = null;

  constructor(
    /** null = a hole: what is below is not known. */
    readonly level: Level | null,
    readonly below: Place | null,
    /** Of a hole: which groups of the unknown level are meant. */
    readonly hole: readonly number[] | null,
  ) {}

  push(level: Level, memory: Memory): Place {
    if (!this.above || this.generation !== memory.generation) {
      this.above = new Map();
      this.generation = memory.generation;
    }
    let place = this.above.get(level);
    if (!place) {
      place = new Place(level, this, null);
      this.above.set(level, place);
      if (++memory.places > MAX_PLACES) forget(memory);
    }
    return place;
  }
}
