/** The disk tier's thread: does what it is told, in order, and says how each order ended. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { BEAT_MS, beat, type LockHandle } from '../base/lock.js';
import type { DiskIo } from './disk-io.js';
import type { DiskLayout, SlotRecord } from './disk-layout.js';

export interface DiskWorkerData {
  fd: number;
  layout: DiskLayout;
  crcs: Uint32Array;
  port: MessagePort;
  lock: LockHandle;
  /** The program's own (DiskProgram). */
  data: unknown;
}

export type DiskOrder =
  | { id: number; kind: 'write'; slot: number; record: Omit<SlotRecord, 'dataCrc'>; kv: Uint8Array }
  | { id: number; kind: 'read'; slot: number; kv: Uint8Array }
  | { id: number; kind: 'erase'; slot: number }
  | { id: number; kind: 'sync' };

/** `error`: what the file system said; a slot that holds something else is `ok: false` without one. */
export interface DiskAnswer {
  id: number;
  ok: boolean;
  ms: number;
  error: string | null;
}

/** Does one order after another; between them the lock is kept. */
export function serveDisk(port: MessagePort, io: DiskIo, lock: LockHandle): void {
  const waiting: DiskOrder[] = [];
  let running = false;
  const next = () => {
    for (let m = receiveMessageOnPort(port); m; m = receiveMessageOnPort(port)) waiting.push(m.message as DiskOrder);
    running = waiting.length > 0;
    if (!running) return;
    // somebody waits for what is read; what is written nobody waits for
    const urgent = waiting.findIndex((o, i) => o.kind === 'read' && !touchedBefore(waiting, i));
    const [order] = waiting.splice(Math.max(0, urgent), 1);
    port.postMessage(run(io, order!));
    setImmediate(next);
  };
  port.on('message', (order: DiskOrder) => {
    waiting.push(order);
    if (!running) next();
  });
  const beats = setInterval(() => beat(lock), BEAT_MS);
  port.once('close', () => clearInterval(beats));
}

/** Orders about one slot stay in order. */
function touchedBefore(orders: readonly DiskOrder[], index: number): boolean {
  const { slot } = orders[index] as { slot: number };
  return orders.slice(0, index).some((o) => 'slot' in o && o.slot === slot);
}

function run(io: DiskIo, order: DiskOrder): DiskAnswer {
  const start = performance.now();
  let ok = true;
  let error: string | null = null;
  try {
    if (order.kind === 'write') io.write(order.slot, order.record, order.kv);
    else if (order.kind === 'read') ok = io.read(order.slot, order.kv);
    else if (order.kind === 'erase') io.erase(order.slot);
    else io.sync();
  } catch (e) {
    ok = false;
    error = e instanceof Error ? e.message : String(e);
  }
  return { id: order.id, ok, ms: performance.now() - start, error };
}
