/** The devices that tests of the whole run on, and why one cannot here. */
import { cudaHere } from '../device/cuda/here.js';

export const testDevices: { device: string; absent: string | false }[] = [
  { device: 'cpu', absent: false },
  { device: 'cuda', absent: cudaHere ? false : 'no NVIDIA GPU' },
];
