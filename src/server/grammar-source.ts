/** What the grammar thread is asked. */
import type { Grammar, ToolFormat, ToolSpec } from '../index.js';

/** Marks of the thinking that may come before what is constrained; null: none may. */
export type GrammarReasoning = { open: string; close: string } | null;

/** What a grammar is made of. Plain data; equal sources are equal grammars. The order of properties counts. */
export type GrammarSource =
  | { kind: 'object'; reasoning?: GrammarReasoning }
  | { kind: 'schema'; schema: unknown; reasoning?: GrammarReasoning }
  | {
      kind: 'tools';
      tools: ToolSpec[];
      choice: 'auto' | 'required' | { name: string };
      format: ToolFormat;
      parallel: boolean;
      reasoning?: GrammarReasoning;
    };

/** The source goes over as JSON: whatever can be written can be sent. */
export interface Calls {
  compile: { args: string; result: Grammar };
}
