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
import { MemoryPromises, promisesFolder, type Room } from './base/memory-promises.js';
import {
  type EngineConfig,
  type EngineOptions,
  engineOptions,
  gpuOf,
  type HubConfig,
  hubOptions,
  parseOptions,
} from './config.js';
import { checkNativeLibrary, createCpuDevice, hostMemoryLevels } from './device/cpu/index.js';
import { createCudaDevice } from './device/cuda/index.js';
import { type Device, kvBytesPerToken, type Program } from './device/device.js';
import { createNullDevice } from './device/null/index.js';
import { chooseDevice } from './devices.js';
import { EngineClient } from './engine/client.js';
import { planModel } from './engine/core.js';
import { type DraftSource, freeBeside, planDraft } from './engine/draft.js';
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
import { openStore, storeAddress } from './store/index.js';
import {
  createTokenizerClient,
  metadataString,
  type TokenizerClient,
  toolTemplateOf,
  vocabularyDifference,
} from './tokenizer/index.js';
import type {
  Adapter,
  ChatMessage,
  ChatRequest,
  CompletionRequest,
  Engine,
  EngineInfo,
  ExpertFlags,
  MemorySplit,
} from './types.js';
import {
  adapterKeyOf,
  fingerprintOf,
  type ModelConfig,
  type ModelFiles,
  openAdapter,
  openModel,
  weightsKeyOf,
} from './weights/index.js';

export * from './config.js';
export { examineDevices, type Finding } from './devices.js';
export * from './errors.js';
export type { CachedModel, ResolvedModel } from './hub/index.js';
export {
  convert,
  QUANTIZE_TYPES,
  type Quantized,
  type QuantizeOptions,
  quantize,
  type WriteOptions,
} from './quantize/index.js';
export { examineStore, storeAddress } from './store/index.js';
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
   * A path to a .gguf or to a folder, an alias, hf:org/repo[:quant or file], pypi:PACKAGE==VERSION, or an address. Left out: the default
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
  const address = storeAddress(config.sessionStore);
  if (address === null) refuseShared(config);
  // without a compiler nothing can be computed: known before a model is fetched for nothing
  const hub = { ...watch, offline: rest.offline === true, onProgress: fetchProgress(watch) };
  const { device: chosen, nvrtc } = await chooseDevice(config, `${rest.cacheDir ?? ''}`, hub);
  config.device = chosen;
  const beforeFetch = chosen === 'cpu' && config.nativeLibrary === '' ? checkNativeLibrary : undefined;
  const { path, alias } = await findOrFetch(model, { ...pick(rest, hubOptions), ...watch }, beforeFetch);
  const files = openModel(path, config);
  const adapters = await openAdapters(config, files, { ...pick(rest, hubOptions), ...watch });
  const program = programOf(files.config, adapters);
  const draft = await openDraftModel(config, files, { ...pick(rest, hubOptions), ...watch });
  const fingerprint = config.sessionStore && fingerprintOf(files);
  const store = address === null ? null : await openStore(address, fingerprint);
  const tokenizer = createTokenizerClient(files.metadata, {
    modelVocab: files.config.dims.vocab,
    reasoningFormat: config.reasoningFormat,
  });
  const data = {
    program,
    weights: files.source,
    draft: draft && { program: draft.program, weights: draft.files.source },
    config,
    fingerprint,
    shared: store !== null,
    adapterKeys: config.cacheDisk ? adapters.map(adapterKeyOf) : [],
    modelKey: config.cacheDisk ? weightsKeyOf(files, config.weights) : '',
    nvrtc,
  };
  const { client, info } = await EngineClient.start(data, tokenizer, watch.onProgress, store);
  const { sessionLen, device, memory, tiers, stepBudget, embeddings } = info;
  const loadMs = performance.now() - started;
  const text = await tokenizer;
  const { warnings, templateInstead } = text.info;
  const toolCalls = toolTemplateOf(metadataString(files.metadata, 'tokenizer.chat_template'), templateInstead);
  const about = {
    ...describeModel(model ?? defaultModel, path, files.config),
    sessionLen,
    device,
    memory,
    tiers,
    draftModel: draft && info.draft && { ...draft.about, memory: info.draft },
    adapters: adapters.map(aboutAdapter),
    stepBudget,
    embeddings,
    toolCalls,
    reasoning: text.reasoning,
    generationDefaults: files.generation,
    loadMs,
  };
  for (const note of warnings) watch.onNote?.(note);
  if (templateInstead !== null) watch.onNote?.(`the model brings no chat template; taken instead: ${templateInstead}`);
  const system = config.systemPrompt || SYSTEM_PROMPTS[alias ?? ''] || '';
  return publicEngine(client, text, about, system);
}

/** Options of a session store that several servers share. @throws invalid_option where there is none */
function refuseShared(config: EngineConfig): void {
  for (const name of ['sessionLease', 'sessionTtl'] as const) {
    const { default: usual } = engineOptions[name];
    if (config[name] !== usual)
      throw errors.invalidOption(
        name,
        config[name],
        `${usual} without a session store that servers share (sessionStore: redis://…, postgres://…)`,
      );
  }
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
  // what the request leaves open, the model's makers advise
  const advised = <T extends object>(request: T): T => ({ ...info.generationDefaults, ...withoutUndefined(request) });
  return {
    info,
    complete: (request: CompletionRequest) => client.complete(advised(request)),
    chat: (request: ChatRequest) => client.chat(advised(request), withSystem),
    embed: (request) => client.embed(request),
    checkpoints: client.checkpoints,
    encodeChat: ({ messages, tools, chatTemplateKwargs }) =>
      text.encodeChat(withSystem(messages), { tools, variables: chatTemplateKwargs }),
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
  /** Mixtures of experts in place of feed-forward blocks; null: none. */
  experts: ExpertFlags | null;
  contextLength: number;
  parameters: number;
  quantisation: ModelConfig['quantisation'];
  kvBytesPerToken: number;
  sessionLen: number;
  /** What it would run on here. */
  device: EngineInfo['device'];
  memory: MemorySplit;
  /** The draft model that the options name, and its memory, which is not there for the model. */
  draftModel: EngineInfo['draftModel'];
  /** LoRA adapters that the options name; their bytes are among those of the weights. */
  adapters?: EngineInfo['adapters'];
}

/** Dimensions, quantisation and memory need of a model under the given options; its weights are not loaded. */
export async function inspectModel(ref?: string, options: EngineOptions & Watch = {}): Promise<ModelInspection> {
  const { watch, rest } = splitWatch(options);
  const config = parseOptions(engineOptions, rest, Object.keys(hubOptions));
  const { path } = await resolveModel(ref, { ...pick(rest, hubOptions), ...watch });
  const files = openModel(path, config);
  const { modelName, architecture, dims, contextLength, parameters } = describeModel(
    ref ?? defaultModel,
    path,
    files.config,
  );
  const hub = { ...watch, offline: rest.offline === true, onProgress: fetchProgress(watch) };
  const { device, nvrtc } = await chooseDevice(config, `${rest.cacheDir ?? ''}`, hub);
  const draft = await openDraftModel(config, files, { ...pick(rest, hubOptions), ...watch });
  const beside = draft && { program: draft.program, weights: draft.files.source };
  const adapters = await openAdapters(config, files, { ...pick(rest, hubOptions), ...watch });
  const { plan, draftPlan, plannedFor } = planFor(files, adapters, { ...config, device }, nvrtc, beside, watch.onNote);
  return {
    name: modelName,
    path,
    architecture,
    dims,
    experts: files.config.flags.experts ?? null,
    contextLength,
    parameters,
    quantisation: files.config.quantisation,
    kvBytesPerToken: kvBytesPerToken(plan.kv),
    sessionLen: plan.sessionLen,
    device: plannedFor,
    memory: plan.memory,
    draftModel: draft && draftPlan && { ...draft.about, memory: draftPlan.memory },
    adapters: adapters.map(aboutAdapter),
  };
}

function planFor(
  files: ModelFiles,
  adapters: readonly Adapter[],
  config: EngineConfig,
  nvrtc: string,
  draft: DraftSource | null,
  onProblem?: Watch['onNote'],
) {
  const program = programOf(files.config, adapters);
  const device = openDevice(config, nvrtc);
  try {
    const bytes = device.weightBytes(program, files.source);
    const sessionLen = config.sessionLen || program.dims.contextLength;
    const room = roomOf(device, onProblem);
    const draftPlan = draft && planDraft(draft, config, sessionLen, device, room);
    const left = draftPlan ? { ...room, free: freeBeside(draftPlan.memory) } : room;
    const { name, isa, threads, library } = device.info;
    return {
      plan: planModel(program, bytes, config, device, left),
      draftPlan,
      plannedFor: { name, isa, threads, library },
    };
  } finally {
    device.close();
  }
}

/** What can be had now, without promising any of it. */
function roomOf(device: Device, onProblem?: Watch['onNote']): Room {
  if (device.info.ownMemory) return { free: device.info.memoryFree, promised: 0 };
  const folder = promisesFolder(process.env);
  return new MemoryPromises({ folder, name: 'nobody', levels: hostMemoryLevels, onProblem }).room();
}

function openDevice(config: EngineConfig, nvrtc: string): Device {
  if (config.device === 'null') return createNullDevice();
  const gpu = gpuOf(config.device);
  if (gpu !== null) return createCudaDevice({ gpu, tp: config.tp, nvrtc });
  const { threads, isa, nativeLibrary } = config;
  return createCpuDevice({ threads: threads || undefined, isa, library: nativeLibrary || undefined });
}

// ---------------------------------------------------------------- model files

function programOf({ dims, rmsEps, rope, tiedOutput, flags }: ModelConfig, adapters: readonly Adapter[] = []): Program {
  const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
  return adapters.length > 0 ? { ...program, adapters } : program;
}

/** The adapters that the options ask for, fetched if they are not here; what they hold is read when the device loads. */
async function openAdapters({ lora }: EngineConfig, model: ModelFiles, options: Partial<HubConfig> & Watch) {
  const adapters: Adapter[] = [];
  for (const { name, ref } of lora) {
    const { path } = await findOrFetch(ref, options).catch((e) => {
      throw e instanceof LongmindError ? errors.adapterMissing(name, ref, e) : e;
    });
    adapters.push(openAdapter(path, name, model.config));
  }
  return adapters;
}

const aboutAdapter = ({ name, path, rank, bytes }: Adapter) => ({ name, path, rank, bytes });

/** The draft model, if the options ask for one; it must have the model's vocabulary. */
async function openDraftModel(config: EngineConfig, model: ModelFiles, options: Partial<HubConfig> & Watch) {
  const { draftModel: ref, speculation } = config;
  if (ref === '') return null;
  if (speculation !== 'auto') {
    options.onNote?.(`speculation is '${speculation}': the draft model '${ref}' is not loaded`);
    return null;
  }
  const { path } = await findOrFetch(ref, options);
  const files = openModel(path, config);
  const [rows, ownRows] = [model.config.dims.vocab, files.config.dims.vocab];
  const difference =
    rows === ownRows ? vocabularyDifference(model.metadata, files.metadata) : `${rows} tokens, not ${ownRows}`;
  if (difference)
    throw errors.invalidOption('draftModel', ref, `a model with the vocabulary of '${model.path}' (${difference})`);
  const { modelName, modelPath, parameters } = describeModel(ref, path, files.config);
  return { files, program: programOf(files.config), about: { modelName, modelPath, parameters } };
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

/** A field that is there but undefined is one that the caller left open. */
const withoutUndefined = <T extends object>(o: T): T =>
  Object.fromEntries(Object.entries(o ?? {}).filter(([, v]) => v !== undefined)) as T;

function splitWatch<T extends Watch>(options: T): { watch: Watch; rest: Omit<T, keyof Watch> } {
  const { onProgress, onPlan, onNote, signal, ...rest } = options;
  return { watch: { onProgress, onPlan, onNote, signal }, rest };
}

function pick(options: object, table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in table));
}
