/** `response_format`, `tools` and what they forbid: from the fields of a request to a grammar. */
import { errors } from '../index.js';
import type { GrammarReasoning, GrammarSource } from './grammar-source.js';

export interface ResponseFormat {
  type: 'text' | 'json_object' | 'json_schema';
  json_schema?: { schema?: object };
}

/** null: free text. */
export function formatSource(
  format: ResponseFormat | null | undefined,
  reasoning: GrammarReasoning = null,
): GrammarSource | null {
  if (!format || format.type === 'text') return null;
  if (format.type === 'json_object') return { kind: 'object', reasoning };
  const schema = format.json_schema?.schema;
  if (schema === undefined) {
    const field = `response_format.json_schema${format.json_schema ? '.schema' : ''}`;
    throw errors.invalidRequest(`field '${field}' is missing`, field);
  }
  return { kind: 'schema', schema, reasoning };
}

/** What could end a constrained answer before it is whole, or leave it no way on. */
export function checkConstrained(body: Record<string, unknown>, by: string): void {
  const refuse = (field: string, why: string) =>
    errors.invalidRequest(`'${field}' cannot be used together with '${by}': ${why}`, field);
  const { stop, stop_token_ids: ids, min_tokens: least, ignore_eos: on, logit_bias: bias } = body;
  if (typeof stop === 'string' || (Array.isArray(stop) && stop.length > 0))
    throw refuse('stop', 'it could end the answer before it is valid');
  if (Array.isArray(ids) && ids.length > 0)
    throw refuse('stop_token_ids', 'they could end the answer before it is valid');
  if (on === true) throw refuse('ignore_eos', 'the answer ends by itself');
  if (typeof least === 'number' && least > 0) throw refuse('min_tokens', 'the answer ends when it is complete');
  if (bias && Object.values(bias).some((v) => Number(v) <= -100))
    throw refuse('logit_bias', 'a banned token (-100) may be the only one that the format allows');
}
