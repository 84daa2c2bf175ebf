/** What copies of KV to and from host memory cost the steps that run beside them: a part of bench:gpu. */
import type { Device, Step } from '../src/device/device.js';

const median = (x: number[]): number => x.sort((a, b) => a - b)[x.length >> 1]!;

/** The same decode step alone and beside copies of KV to and from host memory that never end, in turns. */
export function besideTransfers(
  device: Device,
  step: (i: number) => Step,
  blocks: number,
): { work: string; ours: number; unit: string; gigabytesPerSecond?: number }[] {
  const { kv } = device;
  const host = Array.from({ length: 32 }, () => kv.allocateHost(kv.blockBytes));
  const open: (number | null)[] = host.map(() => null);
  let copied = 0;
  // blocks that no sequence of the batch has
  const pump = (kind: 'read' | 'write') =>
    host.forEach((memory, i) => {
      const transfer = open[i]!;
      if (transfer !== null && !kv.done(transfer)) return;
      open[i] = kv[kind](blocks - 1 - i, memory);
      copied++;
    });
  const run = (kind: 'read' | 'write' | null): number => {
    const times: number[] = [];
    let ticket = device.submit(step(0));
    let started = performance.now();
    for (let i = 1; i < 40; i++) {
      if (kind) pump(kind);
      const next = device.submit(step(i));
      device.wait(ticket);
      ticket = next;
      const now = performance.now();
      if (i > 8) times.push(now - started);
      started = now;
    }
    device.wait(ticket);
    while (!open.every((t) => t === null || kv.done(t)));
    open.fill(null);
    return median(times);
  };
  const alone: number[] = [];
  const beside = { read: [] as number[], write: [] as number[] };
  const rate = { read: 0, write: 0 };
  for (let turn = 0; turn < 3; turn++)
    for (const kind of ['read', 'write'] as const) {
      alone.push(run(null));
      copied = 0;
      const began = performance.now();
      beside[kind].push(run(kind));
      rate[kind] = (copied * kv.blockBytes) / (performance.now() - began) / 1e6;
    }
  const rows = (['read', 'write'] as const).map((kind) => ({
    work: `a decode step at 64 beside KV going ${kind === 'read' ? 'to' : 'from'} host memory`,
    ours: 100 * (median(beside[kind]) / median(alone) - 1),
    unit: '% slower',
    gigabytesPerSecond: rate[kind],
  }));
  return [...rows, { work: 'a KV block from host memory, measured at start', ours: kv.writeRate! / 1e6, unit: 'GB/s' }];
}
