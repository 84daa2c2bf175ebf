/** The engine without its thread over the null device, from options to answers. */
import { engineOptions, greedySampling, parseOptions } from '../../src/config.js';
import { createNullDevice } from '../../src/device/null/index.js';
import { Core } from '../../src/engine/core.js';
import type { EngineRequest, FinishedRequest } from '../../src/engine/request.js';
import { VOCAB } from './batch.js';

const dims = { layers: 2, dim: 64, heads: 2, kvHeads: 1, headDim: 32, ffDim: 64, vocab: VOCAB, contextLength: 1024 };
export const program = { dims, buffers: [], ops: [] };

export function request(id: number, prompt: number[], sessionId: string | null): EngineRequest {
  return {
    id,
    tokens: Int32Array.from(prompt),
    continuation: null,
    sessionId,
    stopTokens: [],
    priority: 0,
    owner: 0,
    grammar: null,
    forkOf: null,
    limits: { maxTokens: 8, minTokens: 0, stop: [], stopTokens: [], ignoreEos: false },
    sampling: greedySampling,
  };
}

export function openCore(options: Record<string, unknown>, fingerprint = 'a model', depth = 1) {
  const out = new Map<number, number[]>();
  const failed: number[] = [];
  const finished: FinishedRequest[] = [];
  const config = parseOptions(engineOptions, { device: 'null', ...options });
  const data = { program, weights: { path: '', tensors: new Map() }, config, fingerprint, modelKey: fingerprint };
  const problems: string[] = [];
  const events = {
    token: (r: EngineRequest, token: number) => void out.get(r.id)!.push(token),
    finished: (f: FinishedRequest) => void finished.push(f),
    failed: (id: number) => void failed.push(id),
  };
  const core = new Core(data, createNullDevice({ depth }), events, { problem: (p) => void problems.push(p) });
  const run = (r: EngineRequest) => {
    out.set(r.id, []);
    core.batch.submit(r);
    while (core.batch.step());
    return out.get(r.id)!;
  };
  return { core, run, failed, finished, out, problems };
}
