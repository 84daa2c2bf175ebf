/** What this machine can do, for shares of the limit: measured, not looked up. */
import os from 'node:os';
import { type CpuDeviceOptions, createCpuDevice } from '../src/device/cpu/index.js';

export interface Limits {
  /** Read bandwidth of all threads together, GB/s. */
  bandwidth: number;
  /** 8-bit integer multiply and add, 10⁹ operations a second, all threads together. */
  int8: number;
}

export interface LimitMeter {
  /** e.g. 'AMD EPYC, 2 threads, avx512vnni'. */
  machine: string;
  /** About 0.3 s. A machine's neighbours change its bandwidth within minutes, so measure beside what is compared. */
  measure(): Limits;
  close(): void;
}

export function openLimitMeter(threads: number, isa: CpuDeviceOptions['isa'] = 'auto'): LimitMeter {
  const device = createCpuDevice({ threads, isa });
  const best = (f: () => number) => Math.max(...Array.from({ length: 3 }, f));
  return {
    machine: `${os.cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${threads} threads, ${device.info.isa}`,
    measure: () => ({
      bandwidth: best(() => device.native.benchRead(device.handle, 256 * 2 ** 20, 2)) / 1e9,
      int8: best(() => device.native.benchPeak(device.handle, 0, 30)) / 1e9,
    }),
    close: () => device.close(),
  };
}
