/** What this machine can do, for shares of the limit: measured, not looked up. */
import os from 'node:os';
import { createCpuDevice } from '../src/device/cpu/index.js';

export interface MachineLimits {
  machine: string;
  threads: number;
  /** Read bandwidth of all threads together, GB/s. */
  bandwidth: number;
  /** 8-bit integer multiply and add, 10⁹ operations a second, all threads together. */
  int8: number;
}

export function machineLimits(threads: number): MachineLimits {
  const device = createCpuDevice({ threads });
  try {
    const best = (f: () => number) => Math.max(...Array.from({ length: 5 }, f));
    return {
      machine: `${os.cpus()[0]?.model ?? 'unknown CPU'}, ${threads} threads`,
      threads,
      bandwidth: best(() => device.native.benchRead(device.handle, 512 * 2 ** 20, 2)) / 1e9,
      int8: best(() => device.native.benchPeak(device.handle, 0, 100)) / 1e9,
    };
  } finally {
    device.close();
  }
}
