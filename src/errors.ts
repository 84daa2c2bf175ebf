/**
 * Every error a caller can cause, each once: a stable code, a message with the numbers, an HTTP status.
 * Three kinds of error live in longmind: `false`/`null` means "does not fit now"; a LongmindError is the caller's;
 * a failed `invariant` is our own bug.
 */
export class LongmindError extends Error {
  override readonly name = 'LongmindError';
  constructor(
    /** Stable, machine-readable. */
    readonly code: string,
    /** HTTP status a server answers with. */
    readonly status: number,
    message: string,
    /** The request field or option at fault, where there is one. */
    readonly param: string | null = null,
    /** When to try again, in milliseconds, where that is known. */
    readonly retryAfterMs: number | null = null,
  ) {
    super(message);
  }

  /** Plain data, so that the error can cross a worker boundary. */
  toJSON(): SerializedError {
    const { code, status, message, param, retryAfterMs } = this;
    return { code, status, message, param, retryAfterMs };
  }
}

export interface SerializedError {
  code: string;
  status: number;
  message: string;
  param: string | null;
  retryAfterMs?: number | null;
}

/** Rebuilds an error that crossed a worker boundary. */
export function reviveError(e: SerializedError): LongmindError {
  return new LongmindError(e.code, e.status, e.message, e.param, e.retryAfterMs);
}

/** A broken promise of our own code; never the caller's fault. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

const err = (code: string, status: number, message: string, param: string | null = null) =>
  new LongmindError(code, status, message, param);

const badGguf = (path: string, detail: string) =>
  err('bad_gguf', 400, `'${path}' is not a usable GGUF file: ${detail}`, 'model');

/** The catalogue. */
export const errors = {
  // options and requests
  unknownOption: (name: string, hint?: string) =>
    err('unknown_option', 400, `unknown option '${name}'${hint ? `; did you mean '${hint}'?` : ''}`, name),
  invalidOption: (name: string, value: unknown, expected: string) =>
    err('invalid_option', 400, `option '${name}' must be ${expected}, not ${describe(value)}`, name),
  invalidRequest: (message: string, param: string | null = null) => err('invalid_request', 400, message, param),
  invalidJson: (detail: string) => err('invalid_json', 400, `the request body is not valid JSON: ${detail}`),
  bodyTooLarge: (limit: number) => err('body_too_large', 413, `the request body exceeds ${limit} bytes`),
  unknownModel: (name: string, served: readonly string[]) =>
    err(
      'model_not_found',
      404,
      `model '${name}' is not served here; this server has ${served.map((s) => `'${s}'`).join(', ')}`,
      'model',
    ),
  unauthorized: () =>
    err('invalid_api_key', 401, 'a valid API key is required: send "Authorization: Bearer KEY" (or "x-api-key: KEY")'),
  // capacity
  promptTooLong: (tokens: number, limit: number) =>
    err(
      'prompt_too_long',
      400,
      `the prompt has ${tokens} tokens and needs room for at least one more, but the session length is ${limit}`,
    ),
  neverFits: (tokens: number, blocks: number, capacity: number, blockLen: number) =>
    err(
      'never_fits',
      400,
      `this request may need ${tokens} tokens = ${blocks} KV blocks of ${blockLen}, but the whole KV cache has ` +
        `${capacity}: shorten it, lower max_tokens, or raise cacheMaxEntryCount`,
    ),
  queueFull: (limit: number) => err('queue_full', 429, `${limit} requests are waiting already; try again later`),
  /** `promised`: what is not available only since other engines were promised it. */
  notEnoughMemory: (what: string, need: number, have: number, promised = 0) => {
    const others = promised > 0 ? `; ${formatBytes(promised)} more are promised to other longmind processes` : '';
    return err(
      'not_enough_memory',
      500,
      `${what} needs ${formatBytes(need)}, but ${formatBytes(have)} are available${others}`,
    );
  },
  // sessions
  sessionBusy: (id: string) =>
    err('session_busy', 409, `session '${id}' has a request in flight; wait for it or abort it`, 'session_id'),
  /** Of several servers with one session store. */
  sessionElsewhere: (id: string, leftMs: number) =>
    new LongmindError(
      'session_busy',
      409,
      `session '${id}' has a request in flight on a server that holds it for ${Math.ceil(leftMs)} ms at least`,
      'session_id',
      leftMs,
    ),
  sessionTooShort: (id: string, tokens: number, wanted: number, param = 'length') =>
    err('invalid_request', 400, `session '${id}' has ${tokens} tokens, not ${wanted}`, param),
  leaseLost: (id: string) =>
    new LongmindError(
      'session_lease_lost',
      409,
      `session '${id}' was taken over by another server, which this one had not answered for too long: this turn is not kept`,
      'session_id',
      1000,
    ),
  storeUnavailable: (place: string) =>
    new LongmindError(
      'session_store_unavailable',
      503,
      `the session store (${place}) does not answer, and without it a kept conversation cannot go on`,
      null,
      1000,
    ),
  /** It did not answer whether it took a turn. */
  turnUncertain: (place: string, id: string) =>
    new LongmindError(
      'session_store_unavailable',
      503,
      `the session store (${place}) did not say whether it keeps this turn of session '${id}': ` +
        'ask again with its length before (session_length), or with its whole history',
      null,
      1000,
    ),
  storePackageMissing: (name: string) =>
    err(
      'store_package_missing',
      400,
      `--session-store with this address needs a package that is not installed: npm install ${name}`,
      'sessionStore',
    ),
  sessionUnknown: (id: string) => err('session_not_found', 404, `there is no session '${id}'`, 'session_id'),
  sessionAdapter: (id: string, has: string | null, asked: string | null) =>
    err(
      'session_adapter',
      409,
      `session '${id}' is of ${nameOfAdapter(has)}, and the request asks for ${nameOfAdapter(asked)}: a session keeps its adapter`,
      'model',
    ),
  /** A session that is kept, and cannot go on here. */
  sessionAdapterMissing: (id: string, name: string, loaded: readonly string[]) =>
    err(
      'adapter_not_found',
      404,
      `session '${id}' is of the adapter '${name}', which is not here (${thereAre(loaded)}): load it, or delete the session`,
      'session_id',
    ),
  checkpointUnknown: (name: string) =>
    err('checkpoint_not_found', 404, `nothing is kept under the name '${name}'`, 'after'),
  tooManySessions: (limit: number) =>
    err('too_many_sessions', 429, `all ${limit} sessions that may be kept are in use`, 'session_id'),
  // model files
  fileMissing: (path: string) => err('file_missing', 404, `there is no file '${path}'`, 'model'),
  badGguf,
  /** A file of weights in any format, or of a folder of them. */
  badModelFile: (path: string, detail: string) =>
    /\.(safetensors|json|jinja|model)$/i.test(path)
      ? err('bad_model_file', 400, `'${path}' cannot be used: ${detail}`, 'model')
      : badGguf(path, detail),
  unsupportedArchitecture: (name: string, supported: string[]) =>
    err(
      'unsupported_architecture',
      400,
      `architecture '${name}' is not supported (supported: ${supported.join(', ')})`,
    ),
  unsupportedModel: (detail: string) =>
    err('unsupported_model', 400, `this model cannot be computed here: ${detail}`, 'model'),
  unsupportedTensorType: (tensor: string, type: string, supported: string[]) =>
    err(
      'unsupported_tensor_type',
      400,
      `tensor '${tensor}' has type ${type}, which is not supported (supported: ${supported.join(', ')})`,
    ),
  badAdapter: (name: string, detail: string) =>
    err('bad_adapter', 400, `LoRA adapter '${name}' cannot be used: ${detail}`, 'lora'),
  /** It could not be found, or fetched. */
  adapterMissing: (name: string, ref: string, { code, status, message }: LongmindError) =>
    code === 'file_missing'
      ? err('bad_adapter', 400, `LoRA adapter '${name}' cannot be used: there is no file or folder '${ref}'`, 'lora')
      : err(code, status, `LoRA adapter '${name}': ${message.replace(/\nGive a local file .*$/, '')}`, 'lora'),
  noAdapters: (device: string) =>
    err('adapters_unsupported', 400, `the device '${device}' does not compute LoRA adapters: use --device cpu`, 'lora'),
  unknownAdapter: (name: string, loaded: readonly string[]) =>
    err('adapter_not_found', 404, `there is no LoRA adapter '${name}' here (${thereAre(loaded)})`, 'adapter'),
  modelUnavailable: (ref: string, tried: string[]) =>
    err(
      'model_unavailable',
      502,
      `model '${ref}' could not be fetched:\n${tried.map((t) => `  - ${t}`).join('\n')}\n` +
        'Give a local file instead: --model /path/to/model.gguf',
      'model',
    ),
  offline: (ref: string) =>
    err('offline', 502, `model '${ref}' is not in the cache and --offline forbids fetching it`, 'model'),
  notCached: (ref: string, folder: string) =>
    err('model_not_cached', 404, `model '${ref}' is not among the fetched models in '${folder}'`, 'model'),
  checksum: (file: string, want: string, got: string) =>
    err('checksum_mismatch', 502, `'${file}' has sha256 ${got}, expected ${want}; the partial file was removed`),
  badTokenizer: (detail: string) =>
    err('bad_tokenizer', 400, `the model file's tokenizer cannot be used: ${detail}`, 'model'),
  badTemplate: (detail: string) => err('bad_chat_template', 400, `the chat template failed: ${detail}`),
  // device and native library
  noEmbeddings: (device: string) =>
    err(
      'embeddings_unsupported',
      400,
      `the device '${device}' gives no hidden states, so there are no embeddings: use --device cpu`,
    ),
  nativeUnavailable: (tried: string[]) =>
    err(
      'native_unavailable',
      500,
      `the native library could not be built or loaded:\n${tried.map((t) => `  - ${t}`).join('\n')}`,
    ),
  native: (code: number, detail: string) =>
    err('native_error', 500, `the native device reported error ${code}: ${detail}`),
  noCudaDriver: () =>
    err(
      'cuda_unavailable',
      500,
      "there is no NVIDIA driver: libcuda.so.1 cannot be loaded; install the GPU's driver, or use --device cpu",
    ),
  noCudaGpu: (detail: string) =>
    err('cuda_unavailable', 500, `the NVIDIA driver finds no GPU (${detail}); use --device cpu`),
  cudaDriverTooOld: (detail: string) =>
    err('cuda_unavailable', 500, `the NVIDIA driver is too old: ${detail}, and one for CUDA 12.0 or newer is needed`),
  gpuTooOld: (name: string, capability: number) =>
    err(
      'cuda_unavailable',
      500,
      `${name} has compute capability ${(capability / 10).toFixed(1)}; 8.0 (Ampere) or newer is needed`,
    ),
  unequalGpus: (gpus: string[]) =>
    err('cuda_unavailable', 500, `GPUs that share a model (--tp) must be alike: ${gpus.join(', ')}`),
  noPeerAccess: (from: string, to: string) =>
    err(
      'cuda_unavailable',
      500,
      `${from} cannot reach the memory of ${to}, which GPUs that share a model (--tp) need: leave --tp out, or choose others`,
    ),
  gpuBits: (name: string) =>
    err(
      'cuda_unavailable',
      500,
      `the matrix instructions of ${name} give other bits where a value stands elsewhere in a tile, so answers would ` +
        'depend on what else is computed and on what was cached; use --device cpu',
    ),
  noNvrtc: (detail: string) =>
    err(
      'cuda_unavailable',
      500,
      `NVRTC, which compiles the CUDA kernels, is not here (${detail}): python3 -m pip install nvidia-cuda-nvrtc, ` +
        'or set LONGMIND_NVRTC to the folder of libnvrtc.so',
    ),
  kernelFailed: (file: string, log: string) =>
    err('cuda_unavailable', 500, `the CUDA kernel ${file} could not be compiled:\n${log}`),
  nanLogits: (position: number) =>
    err(
      'nan_logits',
      500,
      `the model produced no finite logits at position ${position}; its weights or the input are bad`,
    ),
  deadEnd: () =>
    err('grammar_dead_end', 500, 'no token of this vocabulary can go on in the way the requested format demands'),
  engineFailed: (detail: string) => err('engine_failed', 500, `the engine failed: ${detail}`),
  aborted: () => err('request_aborted', 409, 'the request was aborted'),
  engineClosed: () => err('engine_closed', 503, 'the engine is shutting down'),
  portInUse: (host: string, port: number) =>
    err('port_in_use', 500, `${host}:${port} is already in use; choose another with --server-port`),
  sessionStoreInUse: (dir: string, holder: string) =>
    err(
      'session_store_in_use',
      500,
      `the session store '${dir}' is in use by ${holder}: stop that one, or give this one a folder of its own`,
      'sessionStore',
    ),
  cacheDiskInUse: (dir: string, holder: string) =>
    err(
      'cache_disk_in_use',
      500,
      `the disk cache '${dir}' is in use by ${holder}: stop that one, or give this one a folder of its own`,
      'cacheDisk',
    ),
  // files and command line
  io: (what: string, detail: string) => err('io_error', 500, `${what}: ${detail}`),
};

const thereAre = (adapters: readonly string[]): string =>
  adapters.length > 0 ? `there are ${adapters.map((n) => `'${n}'`).join(', ')}` : 'none is loaded: --lora NAME=REF';

const nameOfAdapter = (name: string | null): string => (name === null ? 'the model alone' : `the adapter '${name}'`);

function describe(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}

/** 1536 → '1.5 KiB'. */
export function formatBytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let u = 0;
  let v = n;
  while (Math.abs(v) >= 1024 && u < units.length - 1) {
    v /= 1024;
    u++;
  }
  return `${u === 0 ? v : v.toFixed(v >= 100 ? 0 : 1)} ${units[u]}`;
}
