/** The part of the library that the command line uses; tests give it another. */
import type * as bench from '../bench/index.js';
import type {
  Engine,
  EngineOptions,
  Finding,
  HubConfig,
  ModelInspection,
  Quantized,
  QuantizeOptions,
  ServerConfig,
  WriteOptions,
} from '../index.js';

export type OnProgress = (what: string, done: number, total: number) => void;

export interface ModelFile {
  ref: string;
  path: string;
  bytes: number;
}

/** Tells of what takes long. */
export interface Watch {
  onProgress?: OnProgress;
  /** Before anything is fetched: the file, its bytes (0: unknown), and those that an earlier attempt left. */
  onPlan?: (plan: { file: string; bytes: number; present: number }) => void;
  onNote?: (note: string) => void;
  signal?: AbortSignal;
}

/** Measurements; results are plain data. Loaded only for `longmind bench`. */
export interface Bench {
  trace(options: bench.TraceBenchOptions): object | Promise<object>;
  cache(options: { blocks: number[] }): object | Promise<object>;
  sessions(engine: Engine, options: bench.SessionsOptions): Promise<object>;
  sessionsCompare(open: bench.OpenEngine, options: bench.CompareOptions): Promise<bench.CompareResult>;
  sessionsSweep(open: bench.OpenEngine, options: bench.SweepOptions): Promise<bench.SweepResult>;
  sessionsDisk(open: bench.OpenEngine, options: bench.DiskOptions): Promise<bench.DiskResult>;
  sessionsJournal(open: bench.OpenEngine, options: bench.JournalOptions): Promise<bench.JournalResult>;
  recall(engine: Engine, options: bench.RecallOptions): Promise<object>;
  perplexity(options: bench.PerplexityOptions): Promise<bench.PerplexityResult>;
}

/** A server that listens. */
export interface RunningServer {
  readonly url: string;
  readonly modelName: string;
  close(): Promise<void>;
}

/** The HTTP server: another surface over the same library, so the start script brings it; loaded only where it is needed. */
export interface ServerModule {
  /** Throws what createServer would throw for these options. */
  checkServerOptions(options: Record<string, unknown>): { config: ServerConfig };
  /** Rejects if the address cannot be listened on. */
  checkSurroundings(config: ServerConfig): Promise<void>;
  createServer(engine: Engine, options: Record<string, unknown>): Promise<RunningServer>;
}

export interface Library {
  readonly defaultModel: string;
  createEngine(options: EngineOptions & Watch & { model?: string }): Promise<Engine>;
  inspectModel(ref: string | undefined, options: EngineOptions & Watch): Promise<ModelInspection>;
  /** Without a reference the default model, or one that comes with the library where that cannot be had. */
  resolveModel(ref: string | undefined, options: Partial<HubConfig> & Watch): Promise<ModelFile>;
  listModels(options: Partial<HubConfig>): Promise<ModelFile[]>;
  examineDevices(options: Partial<HubConfig> & { cacheDir: string }): Finding[];
  removeModel(ref: string, options: Partial<HubConfig>): Promise<ModelFile>;
  quantize(input: string, output: string, options: QuantizeOptions): Promise<Quantized>;
  convert(folder: string, output: string, options: WriteOptions): Promise<Quantized>;
  loadBench(): Promise<Bench>;
}
