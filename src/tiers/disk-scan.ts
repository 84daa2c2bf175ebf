/** What a disk tier's file still holds when a process starts: the texts whose KV can be found from their beginning on. */
import { chainKey, type DiskLayout, decodeRecord, rootKey, type SlotRecord } from './disk-layout.js';

/** The KV of one block that an earlier process left; parents stand before their children. */
export interface FoundNode {
  slot: number;
  /** Index of the block before it, -1 for a first one. */
  parent: number;
  namespace: number;
  /** The block's own tokens. */
  tokens: Int32Array;
}

export interface Scan {
  nodes: FoundNode[];
  /** (slots) CRC-32 of the KV of each slot that `nodes` names. */
  crcs: Uint32Array;
  /** The latest stamp seen. */
  stamp: number;
}

/** Reads a table of records. What hangs on nothing, or stands there twice, is left out: its slot is free. */
export function scanRecords(layout: DiskLayout, table: Uint8Array): Scan {
  const scan: Scan = { nodes: [], crcs: new Uint32Array(layout.slots), stamp: 0 };
  const byKey = new Map<string, { slot: number; record: SlotRecord }>();
  for (let slot = 0; slot < layout.slots; slot++) {
    const record = decodeRecord(layout, table.subarray(slot * layout.recordBytes, (slot + 1) * layout.recordBytes));
    if (!record) continue;
    scan.stamp = Math.max(scan.stamp, record.stamp);
    const name = nameOf(record.key);
    const other = byKey.get(name);
    if (!other || other.record.stamp < record.stamp) byKey.set(name, { slot, record });
  }
  const indexes = new Map<string, number>();
  const ends: number[] = [];
  const byEnd = [...byKey.values()].sort((a, b) => a.record.end - b.record.end);
  for (const { slot, record } of byEnd) {
    const parent = parentOf(record, indexes, layout);
    const start = record.end - record.tokens.length;
    const fits =
      parent === -1
        ? start === 0
        : parent >= 0 && ends[parent] === start && scan.nodes[parent]!.namespace === record.namespace;
    if (!fits) continue;
    if (record.tokens.length === layout.blockLen) indexes.set(nameOf(record.key), scan.nodes.length);
    ends.push(record.end);
    scan.nodes.push({ slot, parent, namespace: record.namespace, tokens: record.tokens });
    scan.crcs[slot] = record.dataCrc;
  }
  return scan;
}

/** Index of what stands before it, -1 for a first block, -2 if that is not here. */
function parentOf(r: SlotRecord, indexes: ReadonlyMap<string, number>, { groups }: DiskLayout): number {
  const name = nameOf(r.parentKey);
  return name === nameOf(rootKey(r.namespace, groups)) ? -1 : (indexes.get(name) ?? -2);
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

/** The names of the last block of `prefix` and of what stands before it. */
export function keysOf(
  namespace: number,
  prefix: Int32Array,
  blockLen: number,
  groups: DiskLayout['groups'] = {},
): { key: Uint8Array; parentKey: Uint8Array } {
  let parentKey = rootKey(namespace, groups);
  let at = 0;
  for (; at + blockLen < prefix.length; at += blockLen)
    parentKey = chainKey(parentKey, prefix.subarray(at, at + blockLen));
  return { key: chainKey(parentKey, prefix.subarray(at)), parentKey };
}
