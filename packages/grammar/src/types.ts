/** Plain data of the grammar layer. */
import type { ToolFormat } from './tool-formats.js';

/** What each token stands for; the same table that aligns histories. Token t's bytes are bytes[offsets[t]] … bytes[offsets[t+1]-1]. */
export interface TokenBytes {
  bytes: Uint8Array;
  /** (vocab + 1) */
  offsets: Int32Array;
  /** (vocab) 1 = special: never part of a document. */
  special: Uint8Array;
}

/**
 * A compiled grammar: a recursive transition network over bytes. Plain data, so that it may be compiled on one thread and
 * used on another (structured clone). State numbers below `sharedStates` mean the same in every grammar.
 *
 * A state has byte edges, calls (run a rule, then go on in another state), an `alt` state whose edges it shares, and may be
 * final. Inside a value heights are visible: whether a byte continues a rule, enters one or leaves one is decided by that
 * byte alone. That makes the network deterministic in height, and sets of alternatives cheap.
 */
export interface Grammar {
  readonly version: 1;
  readonly sharedStates: number;
  readonly tags: readonly Tag[];
  /** State in which the document starts. */
  readonly root: number;
  /** States in which an answer starts that may think first (`before`), or is in its thinking already; null: it must not think. */
  readonly thinking?: { before: number; inside: number } | null;
  /** (states + 1) into edgeLo, edgeHi, edgeTo, edgeFlag. */
  readonly edgeStart: Int32Array;
  readonly edgeLo: Uint8Array;
  readonly edgeHi: Uint8Array;
  readonly edgeTo: Int32Array;
  /** One of the EDGE_ constants. */
  readonly edgeFlag: Uint8Array;
  /** (states + 1) into callRule, callTo. */
  readonly callStart: Int32Array;
  readonly callRule: Int32Array;
  readonly callTo: Int32Array;
  /** (states) a state that this one also behaves as, or -1. */
  readonly alt: Int32Array;
  /** (states) RULE_END, DOCUMENT_END or 0. */
  readonly final: Uint8Array;
  /** (rules + 1) into ruleState, ruleMin, ruleMax: the places where a rule begins, with their character counters. */
  readonly ruleStart: Int32Array;
  readonly ruleState: Int32Array;
  /** Characters a counted string must still have; 0 elsewhere. */
  readonly ruleMin: Int32Array;
  /** Characters a counted string may still have; UNCOUNTED elsewhere. */
  readonly ruleMax: Int32Array;
}

/** A rule may end here and return to its caller. */
export const RULE_END = 1;
/** The document may end here. */
export const DOCUMENT_END = 2;

/** An ordinary edge. */
export const EDGE_PLAIN = 0;
/** Begins a character of a counted string: needs max > 0, lowers both counters. */
export const EDGE_CHAR = 1;
/** Ends a counted string: needs min = 0. */
export const EDGE_CLOSE = 2;
/** The upper counter of everything that is not a counted string. */
export const UNCOUNTED = 0x7fffffff;

/** A marker that some vocabularies have as a special token, such as Qwen's `<tool_call>`. */
export interface Tag {
  text: string;
  /** States in which that token may come, for its spelling. */
  states: readonly number[];
}

export interface CompileOptions {
  /**
   * 'flexible' (default): one space or one line break with indentation after `{ [ ,` and before `} ]`, one space after `:`.
   * 'compact': no whitespace at all.
   */
  whitespace?: 'flexible' | 'compact';
  /**
   * What an object with `properties` but without `additionalProperties` may hold (and likewise an array with `prefixItems` but
   * without `items`). 'closed' (default): only what is declared, a narrower language that is still valid; 'open': as the
   * JSON Schema standard says, anything else too.
   */
  undeclared?: 'closed' | 'open';
  /** The request field that errors name; default 'response_format'. */
  param?: string;
  /** Marks of a thinking that may come before the document and is free text; see `GrammarStart`. */
  reasoning?: { open: string; close: string } | null;
}

/** Where a matcher begins: in the document, before a thinking that may come first, or inside of one. */
export type GrammarStart = 'document' | 'before' | 'inside';

/** A function that a model may call, as in the OpenAI API. */
export interface ToolSpec {
  name: string;
  /** JSON Schema of the arguments object; none = no arguments. */
  parameters?: unknown;
}

export interface ToolOptions extends CompileOptions {
  /** 'auto': text that may turn into calls; 'required': at least one call, nothing else; a name: that function. */
  choice: 'auto' | 'required' | { name: string };
  format: ToolFormat;
  /** More than one call in a message, where the format has a way to write them; default true. */
  parallel?: boolean;
}
