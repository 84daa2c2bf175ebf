/**
 * The promise of the same bits rests on how the matrix instructions add, which no vendor promises. So each GPU is asked at
 * start, by sums that several ways must make alike (native/cuda/bits.cu): under a millisecond.
 */
import { errors, invariant } from '../../errors.js';
import type { Driver } from './driver.js';
import type { KernelSet } from './kernel-set.js';
import type { KernelKey } from './kernels.js';

const SUMS = 64 * 64;
/** Ways of bits.cu. */
const WAY = { base: 0, moved: 1, descending: 2, wgmma: [3, 4, 5, 6] };

const keyOf = (act: number, wgmma: boolean): KernelKey => ({ kernel: 'bits', macros: { ACT: act, WGMMA: +wgmma } });
/** Attention is in f16, products in the activation type. */
const acts = (act: number) => new Set([1, act]);

export function wantBits(kernels: KernelSet, act: number, wgmma: boolean): void {
  for (const type of acts(act)) kernels.want(keyOf(type, wgmma), 0);
}

/**
 * Does wgmma add as mma.sync does? After the kernels were loaded.
 * @throws cuda_unavailable where mma.sync does not even agree with itself
 */
export function testBits(
  driver: Driver,
  kernels: KernelSet,
  gpu: { name: string; wgmma: boolean },
  act: number,
): boolean {
  const ways = gpu.wgmma ? 7 : 3;
  const out = new Int32Array(ways * SUMS);
  const address = driver.allocate(out.byteLength);
  invariant(address !== null, 'there is no room for the test of the matrix instructions');
  try {
    return [...acts(act)].every((type) => {
      kernels.launch(keyOf(type, gpu.wgmma), { grid: [ways, 1, 1], block: 128, shared: 0 }, { out: address });
      driver.download(new Uint8Array(out.buffer), address, kernels.stream);
      driver.synchronize(kernels.stream);
      kernels.restart();
      const sums = (way: number) => out.subarray(way * SUMS, (way + 1) * SUMS);
      const same = (way: number) => sums(way).every((v, i) => v === out[i]);
      invariant(
        !same(WAY.descending),
        'the test of the matrix instructions shows nothing: another order gave the same',
      );
      if (!same(WAY.moved)) throw errors.gpuBits(gpu.name);
      return !gpu.wgmma || WAY.wgmma.every(same);
    });
  } finally {
    driver.release(address);
  }
}
