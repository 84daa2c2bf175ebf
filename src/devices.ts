/** Which devices this machine has, and which one an engine gets. */
import { type EngineConfig, gpuOf, type HubConfig } from './config.js';
import { checkNativeLibrary, defaultThreads, hostMemoryFree } from './device/cpu/index.js';
import { type CudaFindings, findCuda, findNvrtc, nvrtcFolder, usableGpu } from './device/cuda/index.js';
import { errors, formatBytes, LongmindError } from './errors.js';
import { fetchNvrtc, type HubOptions, nvrtcReference } from './hub/index.js';

export interface ChosenDevice {
  /** As the option says it; never 'auto'. */
  device: string;
  /** Folder where NVRTC was put, if it was fetched. */
  nvrtc: string;
}

/**
 * Settles 'auto', and brings NVRTC where CUDA lacks nothing else.
 * @throws cuda_unavailable, invalid_option where CUDA was asked for by name
 */
export async function chooseDevice(
  { device, tp = 1, draftModel = '' }: Pick<EngineConfig, 'device'> & Partial<Pick<EngineConfig, 'tp' | 'draftModel'>>,
  cacheDir: string,
  hub: HubOptions,
  look: () => CudaFindings = findCuda,
): Promise<ChosenDevice> {
  const gpu = gpuOf(device);
  if (gpu === null) {
    if (tp > 1)
      throw errors.invalidOption('tp', tp, `1 on the device '${device}': only GPUs share a model (--device cuda)`);
    return { device, nvrtc: '' };
  }
  if (tp > 1 && draftModel) throw errors.invalidOption('tp', tp, '1 with a draft model, which computes on one GPU');
  try {
    const found = look();
    usableGpu(found.gpus, gpu, tp);
    const nvrtc = nvrtcFolder(cacheDir, found.major);
    if (!findNvrtc(found.major, nvrtc, hub.env ?? process.env)) await fetchNvrtc(found.major, nvrtc, hub);
    return { device: `cuda:${gpu}`, nvrtc };
  } catch (e) {
    // who asks for several GPUs does not want the CPU instead
    if (device !== 'auto' || tp > 1 || !(e instanceof LongmindError)) throw e;
    if (e.code !== 'cuda_unavailable') throw e;
    hub.onNote?.(`${e.message}\nusing the CPU`);
    return { device: 'cpu', nvrtc: '' };
  }
}

/** One thing that was looked for. */
export interface Finding {
  device: 'cpu' | 'cuda' | 'store';
  what: string;
  ok: boolean;
  detail: string;
}

/** Looks for everything that the devices need; changes and fetches nothing. */
export function examineDevices(options: Pick<HubConfig, 'cacheDir'>): Finding[] {
  return [...examineCpu(), ...examineCuda(options.cacheDir)];
}

function examineCpu(): Finding[] {
  const memory = `${defaultThreads()} threads, ${formatBytes(hostMemoryFree())} of memory free`;
  const found: Finding[] = [{ device: 'cpu', what: 'machine', ok: true, detail: memory }];
  return [...found, { device: 'cpu', what: 'kernels', ...attempt(checkNativeLibrary) }];
}

function examineCuda(cacheDir: string): Finding[] {
  let cuda: CudaFindings | null = null;
  const driver = attempt(() => {
    cuda = findCuda();
    return `for CUDA ${cuda.driver}`;
  });
  const found: Finding[] = [{ device: 'cuda', what: 'driver', ...driver }];
  if (!cuda) return found;
  const { gpus, major } = cuda as CudaFindings;
  gpus.forEach((gpu, i) => {
    const seen = attempt(() => {
      if (gpu.capability < 80) throw errors.gpuTooOld(gpu.name, gpu.capability);
      const capability = (gpu.capability / 10).toFixed(1);
      return `${gpu.name}, compute capability ${capability}, ${formatBytes(gpu.totalBytes)}`;
    });
    found.push({ device: 'cuda', what: `cuda:${i}`, ...seen });
  });
  const place = findNvrtc(major, nvrtcFolder(cacheDir, major), process.env);
  const detail = place
    ? place.library
    : `not here; --device cuda fetches ${nvrtcReference(major)} once (about 90 MB), or set LONGMIND_NVRTC to its folder`;
  return [...found, { device: 'cuda', what: 'NVRTC', ok: place !== null, detail }];
}

function attempt(look: () => string): { ok: boolean; detail: string } {
  try {
    return { ok: true, detail: look() };
  } catch (e) {
    return { ok: false, detail: (e as Error).message };
  }
}
