/** Is there a GPU that the CUDA device can use? Its tests run where there is one. */
import { findCuda, findNvrtc } from '../../../src/device/cuda/index.js';

function look(): boolean {
  try {
    return findNvrtc(findCuda().major, '', process.env) !== null;
  } catch {
    return false;
  }
}

export const cudaHere = look();
