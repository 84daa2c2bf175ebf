/** Plain data that crosses layers. Imports nothing. */

// ---------------------------------------------------------------- weights

/** A tensor of a weight file, still in its own bits on disk. `shape[0]` is the contiguous (input) dimension, as in GGUF. */
export interface TensorInfo {
  name: string;
  /** GGML type name: 'F32' 'F16' 'BF16' 'Q8_0' 'Q4_0' 'Q4_1' 'Q4_K' 'Q5_K' 'Q6_K' … */
  type: string;
  shape: number[];
  /** Byte offset from the start of the file. */
  offset: number;
  byteLength: number;
}

/** Where a device finds the weights: one file and its tensors by name. Checked against the file's size by the reader. */
export interface TensorSource {
  path: string;
  tensors: ReadonlyMap<string, TensorInfo>;
}
