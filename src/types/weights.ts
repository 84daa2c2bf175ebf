/** Weights as files have them. */
/** A tensor of a weight file, still in its own bits on disk. `shape[0]` is the contiguous (input) dimension, as in GGUF. */
export interface TensorInfo {
  name: string;
  /** GGML type name: 'F32' 'F16' 'BF16' 'Q8_0' 'Q4_0' 'Q4_1' 'Q4_K' 'Q5_K' 'Q6_K' … */
  type: string;
  shape: number[];
  /** Byte offset from the start of the file. */
  offset: number;
  byteLength: number;
  /** The file that it lies in, if it is another than the source's `path`. */
  file?: string;
  /**
   * The pieces of the file (or of others) that its rows are in, one after another; each but the last has a multiple of 16 rows.
   * Where they are packed: rows of `packed` (their own, or the tensor's) from `row` on.
   */
  runs?: { offset: number; rows: number; file?: string; packed?: PackedMatrix; row?: number }[];
  /** Type that a matrix of floats becomes while it is loaded. */
  as?: string;
  /** Added to each value of a vector while it is loaded (norms of Gemma are stored as what they differ from 1). */
  add?: number;
  /** Of a quantised checkpoint: how its file holds the matrix that becomes one of `type`. */
  packed?: PackedMatrix;
}

/** Bytes of a file that belong to a matrix. */
export interface FilePart {
  file: string;
  offset: number;
  byteLength: number;
}

/** A matrix of a quantised checkpoint: value (o, i) = (code - zero) * scale of the group of i. `offset` of its tensor is the codes'. */
export interface PackedMatrix {
  /** Inputs and outputs of the whole matrix in the file. */
  in: number;
  rows: number;
  /** First row that the tensor takes. */
  row: number;
  /** rows: row after row; gptq: words of consecutive inputs, for all outputs; awq: words of 8 shuffled outputs, for all inputs. */
  layout: 'rows' | 'gptq' | 'awq';
  bits: 4 | 8;
  code: 'uint' | 'int8' | 'e4m3' | 'e2m1';
  /** Inputs and outputs that share a scale. */
  groupSize: number;
  groupRows: number;
  scales: FilePart;
  scaleType: 'F32' | 'F16' | 'BF16' | 'E8M0';
  /** The scales of a group lie together, not those of an output. */
  scalesByGroup: boolean;
  /** Zero points; absent: `zeroAdd` alone. */
  zeros?: FilePart;
  zeroKind: 'none' | 'gptq' | 'awq' | 'rows' | 'int8';
  zeroAdd: number;
  /** Group of each input (I32). */
  order?: FilePart;
  /** Codes and scales become those of `type`; else the values are rounded to it. */
  exact: boolean;
}

/** Where a device finds the weights: a file (or several) and tensors by name. Checked against the files' sizes by the reader. */
export interface TensorSource {
  path: string;
  tensors: ReadonlyMap<string, TensorInfo>;
}

/** What a low-rank adapter (LoRA, Hu et al. 2021) adds to one matrix: W·x becomes W·x + scale·B·(A·x). */
export interface AdapterPart {
  /** The matrix's name in the program. */
  weight: string;
  rank: number;
  scale: number;
  /** (inFeatures, rank) in GGUF order. */
  a: TensorInfo;
  /** (rank, its rows); row `rows[i]` (null: i) makes output i. */
  b: TensorInfo;
  rows: Int32Array | null;
}

export interface Adapter {
  /** By which requests ask for it. */
  name: string;
  path: string;
  /** The highest of its parts. */
  rank: number;
  /** Bytes of A and B in its file. */
  bytes: number;
  parts: AdapterPart[];
}
