/**
 * The public API of longmind, and the only place that joins the parts: model file → program and tokenizer → engine.
 *
 * ```ts
 * import { createEngine } from 'longmind';
 * await using engine = await createEngine({ model: 'memo' });
 * for await (const { text } of engine.chat({ messages: [{ role: 'user', content: 'Hello!' }], sessionId: 'me' })) {
 *   process.stdout.write(text);
 * }
 * ```
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import {
  type EngineConfig,
  type EngineOptions,
  engineOptions,
  gpuOf,
  type HubConfig,
  hubOptions,
  parseOptions,
} from './config.js';
import { checkNativeLibrary, createCpuDevice } from './device/cpu/index.js';
import { createCudaDevice } from './device/cuda/index.js';
import { type Device, kvBytesPerToken, type Program } from './device/device.js';
import { createNullDevice } from './device/null/index.js';
import { chooseDevice } from './devices.js';
import { EngineClient } from './engine/client.js';
import { planModel } from './engine/core.js';
import { errors, LongmindError } from './errors.js';
import {
  type CachedModel,
  listModels as cachedModels,
  resolveModel as findModel,
  removeModel as forgetModel,
  type HubOptions,
  type ResolvedModel,
} from './hub/index.js';
import { llama } from './model/llama.js';
import {
  createTokenizerClient,
  metadataString,
  type TokenizerClient,
  toolTemplateOf,
  vocabularyDifference,
} from './tokenizer/index.js';
import type { ChatMessage, ChatRequest, CompletionRequest, Engine, EngineInfo, MemorySplit } from './types.js';
import { type GgufFile, type ModelConfig, readGguf, readModelConfig } from './weights/index.js';

export * from './config.js';
export { examineDevices, type Finding } from './devices.js';
export * from './errors.js';
export type { CachedModel, ResolvedModel } from './hub/index.js';
export * from './structured.js';
export * from './types.js';

/** SmolLM2-135M-Instruct. Who names no model gets it, or the bundled `memo` where it can be had from nowhere. */
export const defaultModel = 'default';

/** The 4-bit SmolLM2-135M answers badly after the system message that its own template brings (llama.cpp agrees). */
const SYSTEM_PROMPTS: Record<string, string> = {
  default: 'You are a helpful AI assistant.',
  smollm2: 'You are a helpful AI assistant.',
};

/** Whom to tell of what takes long. */
export interface Watch {
  /** What, and how much of it (total 0: unknown). */
  onProgress?: (what: string, done: number, total: number) => void;
  /** Before a model is fetched: its bytes (0: unknown; its weights take about as much memory), and those here already. */
  onPlan?: (plan: { file: string; bytes: number; present: number }) => void | Promise<void>;
  /** What is being tried, and what did not work. */
  onNote?: (note: string) => void;
  signal?: AbortSignal;
}

export interface CreateOptions extends EngineOptions, Watch {
  /**
   * A path to a .gguf, an alias, hf:org/repo[:quant or file], pypi:PACKAGE==VERSION, or an address. Left out: the default
   * model, or `memo` where that cannot be had.
   */
  model?: string;
}

/**
 * Loads a model and starts its engine in a worker thread.
 * @throws LongmindError of the model file, the options, the native library or the memory
 */
export async function createEngine(options: CreateOptions = {}): Promise<Engine> {
  const started = performance.now();
  const { model, ...others } = options;
  const { watch, rest } = splitWatch(others);
  const config = parseOptions(engineOptions, rest, Object.keys(hubOptions));
  // without a compiler nothing can be computed: known before a model is fetched for nothing
  const hub = { ...watch, offline: rest.offline === true, onProgress: fetchProgress(watch) };
  const { device: chosen, nvrtc } = await chooseDevice(config, `${rest.cacheDir ?? ''}`, hub);
  config.device = chosen;
  const beforeFetch = chosen === 'cpu' && config.nativeLibrary === '' ? checkNativeLibrary : undefined;
  const { path, alias } = await findOrFetch(model, { ...pick(rest, hubOptions), ...watch }, beforeFetch);
  const { gguf, modelConfig, program } = openModel(path);
  const draft = await openDraftModel(config, gguf, { ...pick(rest, hubOptions), ...watch });
  const tokenizer = createTokenizerClient(gguf.metadata, { modelVocab: modelConfig.dims.vocab });
  const data = {
    program,
    weights: { path, tensors: gguf.tensors },
    draft: draft && { program: draft.program, weights: { path: draft.path, tensors: draft.gguf.tensors } },
    config,
    fingerprint: config.sessionStore && fingerprintOf(gguf),
    modelKey: config.cacheDisk ? weightsKeyOf(gguf) : '',
    nvrtc,
  };
  const { client, info } = await EngineClient.start(data, tokenizer, watch.onProgress);
  const { sessionLen, device, memory, tiers, stepBudget, embeddings } = info;
  const loadMs = performance.now() - started;
  const text = await tokenizer;
  const { warnings, templateInstead } = text.info;
  const toolCalls = toolTemplateOf(metadataString(gguf.metadata, 'tokenizer.chat_template'), templateInstead);
  const about = {
    ...describeModel(model ?? defaultModel, path, modelConfig),
    sessionLen,
    device,
    memory,
    tiers,
    draftModel: draft && info.draft && { ...draft.about, memory: info.draft },
    stepBudget,
    embeddings,
    toolCalls,
    loadMs,
  };
  for (const note of templateInstead === null ? warnings : [...warnings, templateInstead]) watch.onNote?.(note);
  const system = config.systemPrompt || SYSTEM_PROMPTS[alias ?? ''] || '';
  return publicEngine(client, text, about, system);
}

function publicEngine(client: EngineClient, text: TokenizerClient, info: EngineInfo, system: string): Engine {
  const withSystem = (messages: ChatMessage[]): ChatMessage[] =>
    system === '' || messages[0]?.role === 'system' ? messages : [{ role: 'system', content: system }, ...messages];
  // idle, it keeps no process alive; what is not on disk yet is written before the process ends
  const atEnd = () => void close().catch(() => {});
  const close = () => {
    process.off('beforeExit', atEnd);
    return client.close();
  };
  process.once('beforeExit', atEnd);
  return {
    info,
    complete: (request: CompletionRequest) => client.complete(request),
    chat: (request: ChatRequest) => client.chat(request, withSystem),
    embed: (request) => client.embed(request),
    checkpoints: client.checkpoints,
    encodeChat: ({ messages, tools }) => text.encodeChat(withSystem(messages), { tools }),
    encode: (s, options) => text.encode(s, { special: options?.special ?? false }),
    decode: (ids, options) => text.decode(ids, { special: options?.special ?? false }),
    sessions: client.sessions,
    stats: () => client.stats(),
    snapshot: () => client.snapshot(),
    check: () => client.check(),
    onProblem: (listener) => client.onProblem(listener),
    close,
    [Symbol.asyncDispose]: close,
  };
}

// ---------------------------------------------------------------- models

/**
 * A model reference to a file on this machine; fetched if it is not here. Only who names none may get `memo` instead.
 * @throws LongmindError file_missing, invalid_option, offline, model_unavailable, checksum_mismatch, io_error
 */
export function resolveModel(ref?: string, options: Partial<HubConfig> & Watch = {}): Promise<ResolvedModel> {
  return findOrFetch(ref, options);
}

const fetchProgress =
  (watch: Watch): HubOptions['onProgress'] =>
  (p) =>
    watch.onProgress?.(`fetching ${p.file}`, p.received, p.total);

/** `beforeFetch`: called before the network is asked for anything; what it throws is the answer. */
async function findOrFetch(
  ref: string | undefined,
  options: Partial<HubConfig> & Watch,
  beforeFetch?: () => void,
): Promise<ResolvedModel> {
  const { watch, rest } = splitWatch(options);
  const { offline, cacheDir } = parseOptions(hubOptions, rest);
  const onProgress = fetchProgress(watch);
  const hub = { ...watch, offline, cacheDir: cacheDir || undefined, onProgress, beforeFetch };
  try {
    return await findModel(ref ?? defaultModel, hub);
  } catch (e) {
    const unreachable = e instanceof LongmindError && (e.code === 'model_unavailable' || e.code === 'offline');
    if (ref !== undefined || !unreachable) throw e;
    watch.onNote?.(`${e.message}\nusing 'memo' instead, a small model that comes with longmind`);
    return findModel('memo', hub);
  }
}

/** Every model in the cache folder. */
export async function listModels(options: Partial<HubConfig> = {}): Promise<CachedModel[]> {
  return cachedModels({ cacheDir: options.cacheDir || undefined });
}

export async function removeModel(ref: string, options: Partial<HubConfig> = {}): Promise<CachedModel> {
  return forgetModel(ref, { cacheDir: options.cacheDir || undefined });
}

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
export async function inspectModel(ref?: string, options: EngineOptions & Watch = {}): Promise<ModelInspection> {
  const { watch, rest } = splitWatch(options);
  const config = parseOptions(engineOptions, rest, Object.keys(hubOptions));
  const { path } = await resolveModel(ref, { ...pick(rest, hubOptions), ...watch });
  const { gguf, modelConfig, program } = openModel(path);
  const { modelName, architecture, dims, contextLength, parameters } = describeModel(
    ref ?? defaultModel,
    path,
    modelConfig,
  );
  const hub = { ...watch, offline: rest.offline === true, onProgress: fetchProgress(watch) };
  const { device, nvrtc } = await chooseDevice(config, `${rest.cacheDir ?? ''}`, hub);
  const plan = planFor(program, gguf, { ...config, device }, nvrtc);
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

function planFor(program: Program, gguf: GgufFile, config: EngineConfig, nvrtc: string) {
  const device = openDevice(config, nvrtc);
  try {
    const source = { path: gguf.path, tensors: gguf.tensors };
    return planModel(program, device.weightBytes(program, source), config, device);
  } finally {
    device.close();
  }
}

function openDevice(config: EngineConfig, nvrtc: string): Device {
  if (config.device === 'null') return createNullDevice();
  const gpu = gpuOf(config.device);
  if (gpu !== null) return createCudaDevice({ gpu, nvrtc });
  const { threads, isa, nativeLibrary } = config;
  return createCpuDevice({ threads: threads || undefined, isa, library: nativeLibrary || undefined });
}

// ---------------------------------------------------------------- model files

function openModel(path: string): { gguf: GgufFile; modelConfig: ModelConfig; program: Program } {
  const gguf = readGguf(path);
  const modelConfig = readModelConfig(gguf);
  const { dims, rmsEps, rope, tiedOutput } = modelConfig;
  return { gguf, modelConfig, program: llama({ ...dims, rmsEps, rope, tiedOutput }) };
}

/** The draft model, if the options ask for one; it must have the model's vocabulary. */
async function openDraftModel(config: EngineConfig, model: GgufFile, options: Partial<HubConfig> & Watch) {
  const { draftModel: ref, speculation } = config;
  if (ref === '') return null;
  if (speculation !== 'auto') {
    options.onNote?.(`speculation is '${speculation}': the draft model '${ref}' is not loaded`);
    return null;
  }
  const { path } = await findOrFetch(ref, options);
  const { gguf, modelConfig, program } = openModel(path);
  const [rows, ownRows] = [readModelConfig(model).dims.vocab, modelConfig.dims.vocab];
  const difference =
    rows === ownRows ? vocabularyDifference(model.metadata, gguf.metadata) : `${rows} tokens, not ${ownRows}`;
  if (difference)
    throw errors.invalidOption('draftModel', ref, `a model with the vocabulary of '${model.path}' (${difference})`);
  const { modelName, modelPath, parameters } = describeModel(ref, path, modelConfig);
  return { path, gguf, program, about: { modelName, modelPath, parameters } };
}

/** Hash of the file's header: metadata (the tokenizer included) and the list of tensors. */
function fingerprintOf(gguf: GgufFile): string {
  const header = Buffer.alloc(gguf.dataOffset);
  const fd = openSync(gguf.path, 'r');
  try {
    readSync(fd, header, 0, header.length, 0);
  } finally {
    closeSync(fd);
  }
  return createHash('sha256').update(header).digest('hex');
}

/** Pieces of so many bytes of each tensor are looked at: weights that were trained further differ everywhere. */
const PIECE = 4096;

/** Hash of the header, the file's size and time, and of pieces of every tensor: KV of other weights must never be taken. */
function weightsKeyOf(gguf: GgufFile): string {
  const hash = createHash('sha256').update(fingerprintOf(gguf));
  const piece = Buffer.alloc(PIECE);
  const fd = openSync(gguf.path, 'r');
  try {
    const { size, mtimeMs } = fstatSync(fd);
    hash.update(`${size} ${mtimeMs}`);
    for (const { offset, byteLength } of gguf.tensors.values()) {
      for (const at of [0, Math.floor(byteLength / 2), Math.max(0, byteLength - PIECE)]) {
        const n = readSync(fd, piece, 0, Math.min(PIECE, byteLength - at), offset + at);
        hash.update(piece.subarray(0, n));
      }
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
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

function splitWatch<T extends Watch>(options: T): { watch: Watch; rest: Omit<T, keyof Watch> } {
  const { onProgress, onPlan, onNote, signal, ...rest } = options;
  return { watch: { onProgress, onPlan, onNote, signal }, rest };
}

function pick(options: object, table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in table));
}
