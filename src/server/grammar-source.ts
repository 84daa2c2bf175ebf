/** What the grammar thread is asked. */
import type { Grammar, ToolFormat, ToolSpec } from '../index.js';

/** What a grammar is made of. Plain data; equal sources are equal grammars. The order of properties counts. */
export type GrammarSource =
  | { kind: 'object' }
  | { kind: 'schema'; schema: unknown }
  | {
      kind: 'tools';
      tools: ToolSpec[];
      choice: 'auto' | 'required' | { name: string };
      format: ToolFormat;
      parallel: boolean;
    };

/** The source goes over as JSON: whatever can be written can be sent. */
export interface Calls {
  compile: { args: string; result: Grammar };
}
