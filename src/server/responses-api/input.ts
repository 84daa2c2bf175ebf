/** What a request says, read: items of it, or items that it names. */
import type { InputItem, Item } from './items.js';
import { readItem } from './items.js';
import type { KeptResponses } from './kept.js';

/** Reads items; those that only name another are looked for among `named` first, then in the kept responses. */
export async function readInput(
  kept: KeptResponses,
  input: string | readonly InputItem[],
  owner: number,
  { named = [], param = 'input' }: { named?: readonly { id: string; item: Item }[]; param?: string } = {},
): Promise<Item[]> {
  const given: readonly InputItem[] = typeof input === 'string' ? [{ role: 'user', content: input }] : input;
  const items: Item[] = [];
  for (const [i, item] of given.entries()) {
    const read =
      item.type === 'item_reference'
        ? (named.find((e) => e.id === item.id)?.item ?? (await kept.item(item.id!, owner, `${param}[${i}].id`)))
        : readItem(item);
    if (read) items.push(read);
  }
  return items;
}
