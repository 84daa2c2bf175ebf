/**
 * The names that the cache keeps KV apart by: KV that was made with an adapter is of no use to anybody without it. A name is
 * a number that outlives the process (the disk cache keeps it), made of who may share and of which adapter.
 */
import { NAMESPACE_GROUP } from '../cache/types.js';
import { errors, invariant } from '../errors.js';

export interface AdapterId {
  name: string;
  /** From 1; different for each adapter of an engine. */
  tag: number;
}

const TAGS = 2 ** 22;

/** `owner` -1: all may share it. */
export function namespaceOf({ tag }: AdapterId, owner: number): number {
  invariant(tag >= 1 && tag < TAGS, `tag ${tag} of an adapter`);
  if (owner !== -1) checkOwner(owner);
  return tag * NAMESPACE_GROUP + owner + 1;
}

/** Larger numbers are names of what was made with adapters. @throws invalid_request */
export function checkOwner(owner: number): void {
  if (!Number.isInteger(owner) || owner < 0 || owner >= NAMESPACE_GROUP - 1)
    throw errors.invalidRequest(
      `where adapters are loaded, 'owner' must be an integer from 0 to ${NAMESPACE_GROUP - 2}`,
      'owner',
    );
}

/** `keys`: hashes (hex) of what the adapters are, where KV outlives the process; '' where it does not. */
export function adapterIds(names: readonly string[], keys: readonly string[]): AdapterId[] {
  const taken = new Set<number>();
  return names.map((name, i) => {
    let tag = keys[i] ? (Number.parseInt(keys[i].slice(0, 8), 16) % (TAGS - 1)) + 1 : i + 1;
    while (taken.has(tag)) tag = (tag % (TAGS - 1)) + 1;
    taken.add(tag);
    return { name, tag };
  });
}
