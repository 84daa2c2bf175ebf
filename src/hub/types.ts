/** Options and results of fetching models. */

/** How far a file has come. */
export interface Progress {
  file: string;
  /** Bytes so far, those of an earlier attempt included. */
  received: number;
  /** Bytes in all; 0 where it is not known. */
  total: number;
}

export interface Plan {
  file: string;
  /** Bytes to have on disk, and about as many in memory as weights. 0 where it is not known beforehand. */
  bytes: number;
  /** Bytes that an earlier attempt left. */
  present: number;
}

export interface HubOptions {
  /** Never fetch (default false). */
  offline?: boolean;
  /** Folder for fetched models (default: longmind in XDG_CACHE_HOME or ~/.cache). */
  cacheDir?: string;
  onProgress?: (progress: Progress) => void;
  /** Before anything is asked of the network; throwing refuses. */
  beforeFetch?: () => void;
  /** Before a file is fetched; throwing refuses. */
  onPlan?: (plan: Plan) => void | Promise<void>;
  /** What is being tried, and what did not work, in words. */
  onNote?: (note: string) => void;
  signal?: AbortSignal;
  /** Where HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, XDG_CACHE_HOME are read (default process.env). */
  env?: NodeJS.ProcessEnv;
}

interface ModelFile {
  /** The reference: as it was given to resolveModel, or as listModels shows it. */
  ref: string;
  /** Absolute path of the .gguf file. */
  path: string;
  bytes: number;
}

export interface ResolvedModel extends ModelFile {
  /** Where the file came from: 'file', or a reference such as 'hf:org/repo:model.gguf'. */
  source: string;
  /** The alias that was given, if it was one. */
  alias: string | null;
}

/** One file of the cache folder. */
export interface CachedModel extends ModelFile {
  /** Hexadecimal digits; empty where it is not known. */
  sha256: string;
}
