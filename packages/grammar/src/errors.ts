/**
 * Two kinds of error: a GrammarError is the caller's (the schema or the tools cannot be enforced, are wrong, or too large); an
 * InvariantError is our own bug.
 */
export type GrammarErrorCode = 'unsupported_schema' | 'invalid_schema' | 'schema_too_large';

export class GrammarError extends Error {
  override readonly name = 'GrammarError';
  constructor(
    /** Stable, machine-readable. */
    readonly code: GrammarErrorCode,
    /** Names the keyword and its path in the schema. */
    message: string,
    /** The request field at fault: `CompileOptions.param`. */
    readonly param: string,
  ) {
    super(message);
  }
}

/** A broken promise of our own code; never the caller's fault. */
class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** Limits of one compilation. They bound its time and memory whatever the schema is. */
export const limits = {
  /** Schema objects visited. */
  schemas: 20_000,
  /** Nesting of the schema document and of in-place keywords. */
  depth: 64,
  /** Alternatives of one value after anyOf, oneOf and allOf are multiplied out. */
  alternatives: 512,
  /** States of the byte automaton. */
  states: 200_000,
  /** Edges and calls of the byte automaton. */
  edges: 1_000_000,
  /** States of one pattern's automaton. */
  patternStates: 2_000,
  /** Units of work in pattern automata and merging, each well below a microsecond. */
  work: 5_000_000,
  /** Items of an array that are counted. */
  items: 2_048,
  /** Functions in `tools`. */
  tools: 128,
};

/** Counts the work of one compilation; throws when there is too much. Also knows what errors should name. */
export class Budget {
  private work = 0;

  constructor(readonly param: string) {}

  spend(units: number): void {
    this.work += units;
    if (this.work > limits.work) {
      throw this.tooLarge(`compiling it needs more than ${limits.work} units of work`, '');
    }
  }

  /** The schema is right, but this keyword cannot be enforced. */
  unsupported(keyword: string, path: string, why?: string): GrammarError {
    const detail = why ? `: ${why}` : '';
    return new GrammarError(
      'unsupported_schema',
      `schema keyword '${keyword}' at '${path || '#'}' is not supported${detail}`,
      this.param,
    );
  }

  /** The schema is wrong. */
  invalid(path: string, why: string): GrammarError {
    return new GrammarError('invalid_schema', `the schema is invalid at '${path || '#'}': ${why}`, this.param);
  }

  tooLarge(why: string, path: string): GrammarError {
    const at = path ? ` at '${path}'` : '';
    return new GrammarError('schema_too_large', `the schema is too large${at}: ${why}`, this.param);
  }
}
