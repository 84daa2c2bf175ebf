/** The part of the library that the command line uses; tests give it another. */
import type { bench } from '../index.js';
import type { Engine, EngineOptions, HubConfig, MemorySplit } from './api.js';

export type OnProgress = (what: string, done: number, total: number) => void;

export interface ModelFile {
  ref: string;
  path: string;
  bytes: number;
}

export interface ModelInspection {
  [field: string]: unknown;
  name: string;
  memory: MemorySplit;
}

/** Measurements; results are plain data. Those that need no model may be absent. */
export interface Bench {
  trace?(options: { file: string; policy: string; capacityBlocks: number }): Promise<object>;
  cache?(options: { blocks: number[] }): Promise<object>;
  sessions(engine: Engine, options: bench.SessionsOptions): Promise<object>;
  recall(engine: Engine, options: bench.RecallOptions): Promise<object>;
}

type HubOptions = Partial<HubConfig> & { onProgress?: OnProgress; signal?: AbortSignal };

export interface Library {
  readonly defaultModel: string;
  readonly bench: Bench;
  createEngine(
    options: EngineOptions & { model: string; onProgress?: OnProgress; signal?: AbortSignal },
  ): Promise<Engine>;
  resolveModel(ref: string, options: HubOptions): Promise<ModelFile>;
  listModels(options: HubOptions): Promise<ModelFile[]>;
  removeModel(ref: string, options: HubOptions): Promise<ModelFile>;
  inspectModel(ref: string, options: EngineOptions & HubOptions): Promise<ModelInspection>;
}
