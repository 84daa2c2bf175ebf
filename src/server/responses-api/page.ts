/** A part of a list of items, as the query of fields.ts asks for it. */
import { errors } from '../../index.js';

export interface PageQuery {
  limit?: string;
  order?: string;
  after?: string;
}

/** `items`: the first first. @throws LongmindError 400 for a `limit` that is none, and an `after` that is not in the list */
export function page<T extends { id: string }>(
  items: readonly T[],
  { limit = '20', order = 'desc', after }: PageQuery,
) {
  if (!/^([1-9]\d?|100)$/.test(limit))
    throw errors.invalidRequest(`'limit' must be an integer from 1 to 100, not '${limit.slice(0, 40)}'`, 'limit');
  const ordered = order === 'desc' ? [...items].reverse() : items;
  const from = after === undefined ? 0 : ordered.findIndex((i) => i.id === after) + 1;
  if (after !== undefined && from === 0)
    throw errors.invalidRequest(`there is no item '${after}' in this list`, 'after');
  const data = ordered.slice(from, from + Number(limit));
  return { ...listOf(data), has_more: from + data.length < ordered.length };
}

export const listOf = <T extends { id: string }>(data: readonly T[]) => ({
  object: 'list',
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: false,
});
