/** The part of the library that the command line uses; tests give it another. */
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

type HubOptions = Partial<HubConfig> & { onProgress?: OnProgress; signal?: AbortSignal };

export interface Library {
  readonly defaultModel: string;
  createEngine(
    options: EngineOptions & { model: string; onProgress?: OnProgress; signal?: AbortSignal },
  ): Promise<Engine>;
  resolveModel(ref: string, options: HubOptions): Promise<ModelFile>;
  listModels(options: HubOptions): Promise<ModelFile[]>;
  removeModel(ref: string, options: HubOptions): Promise<ModelFile>;
  inspectModel(ref: string, options: EngineOptions & HubOptions): Promise<ModelInspection>;
}
