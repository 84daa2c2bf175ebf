/** Are there GPUs that the CUDA device can use? Its tests run where there are. */
import { findCuda, findNvrtc } from '../../../src/device/cuda/index.js';

function look(): number {
  try {
    const { major, gpus } = findCuda();
    return findNvrtc(major, '', process.env) !== null ? gpus.length : 0;
  } catch {
    return 0;
  }
}

export const gpusHere = look();
export const cudaHere = gpusHere > 0;
