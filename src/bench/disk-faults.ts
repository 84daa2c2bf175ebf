/** How a disk fails (faulty-disk.ts), as plain data. */
export interface DiskFaults {
  seed: number;
  /** Shares (0 … 1) of writes that store a part and say that they stored all, and of those refused with ENOSPC halfway. */
  torn: number;
  full: number;
  /** Share of reads that bring one flipped bit. */
  flipped: number;
  /** Share of all accesses that end with EIO. */
  broken: number;
  /** Every access takes so much longer, in milliseconds. */
  delayMs: number;
  /** Shared, so that it may change at any time; [0] is HERE, AWAY (every access fails) or SILENT (none returns). */
  state: Int32Array;
}

export const HERE = 0;
export const AWAY = 1;
export const SILENT = 2;

export function diskFaults(faults: Partial<DiskFaults>): DiskFaults {
  const state = new Int32Array(new SharedArrayBuffer(4));
  return { seed: 1, torn: 0, full: 0, flipped: 0, broken: 0, delayMs: 0, state, ...faults };
}
