/** Matrices of experts: those of a layer become one tensor (inputs, outputs, experts), however the files hold them. */
import { errors } from '../errors.js';
import type { ModelDims, TensorInfo } from '../types.js';
import { rowsOf } from './shapes.js';

export type ExpertRole = 'ffn_gate' | 'ffn_up' | 'ffn_down';

/** Collects the tensors of single experts. */
export class ExpertTensors {
  /** 'blk.N.ffn_gate' → by expert. */
  readonly #found = new Map<string, TensorInfo[]>();

  /** `expert` is a number of the file: a wrong one leaves a gap, which is found below. */
  add(layer: string, role: ExpertRole, expert: string, tensor: TensorInfo): void {
    const key = `blk.${layer}.${role}`;
    const list = this.#found.get(key) ?? [];
    if (list.length === 0) this.#found.set(key, list);
    // a huge number must not make a long list
    if (Number(expert) < 65_536) list[Number(expert)] = tensor;
  }

  /** One tensor for all experts of each kind of matrix and layer, by its role. @throws bad_model_file */
  *merged(path: string): Generator<[role: string, TensorInfo]> {
    for (const [key, list] of this.#found) yield [`${key}_exps.weight`, merge(path, key, list)];
  }
}

function merge(path: string, key: string, list: readonly TensorInfo[]): TensorInfo {
  const found = list.find((t) => t !== undefined);
  if (!found) throw errors.badModelFile(path, `the experts of '${key}' have impossible numbers`);
  const { type, shape, file, packed } = found;
  for (let e = 0; e < list.length; e++) {
    const t = list[e];
    if (!t)
      throw errors.badModelFile(path, `expert ${e} of '${key}' is missing; there are others up to ${list.length - 1}`);
    if (t.type !== type || t.shape.length !== 2 || t.shape.some((n, i) => n !== shape[i]))
      throw errors.badModelFile(
        path,
        `tensor '${t.name}' is ${t.type} of shape (${t.shape.join(', ')}), other experts are ${type} of (${shape.join(', ')})`,
      );
  }
  const rows = shape[1]!;
  return {
    name: found.name,
    type,
    shape: [shape[0]!, rows, list.length],
    offset: list[0]!.offset,
    byteLength: found.byteLength * list.length,
    ...(file !== undefined && { file }),
    ...(packed && { packed }),
    runs: list.map((t) => ({
      ...{ offset: t.offset, rows },
      ...(t.file !== undefined && { file: t.file }),
      ...(t.packed && { packed: t.packed }),
    })),
  };
}

/** Of a tensor (inputs, gate's and up's outputs, experts), the two. @throws bad_model_file */
export function splitGateUp(t: TensorInfo, width: number): { gate: TensorInfo; up: TensorInfo } {
  const [inputs, rows, experts = 1] = t.shape;
  if (t.shape.length !== 3 || rows !== 2 * width)
    throw errors.badModelFile(
      t.file ?? '',
      `tensor '${t.name}' has shape (${t.shape.join(', ')}), the model needs (inputs, ${2 * width}, experts)`,
    );
  const all = { ...t, shape: [inputs!, rows * experts] };
  const half = (from: number): TensorInfo => {
    // of quantised experts each has a matrix of its own
    const runs =
      t.runs?.map((run) => ({ ...run, rows: width, row: from })) ??
      Array.from({ length: experts }, (_, e) => ({
        offset: rowsOf(all, t.name, e * rows + from, width).offset,
        rows: width,
      }));
    const byteLength = t.byteLength / 2;
    return { ...t, shape: [inputs!, width, experts], offset: runs[0]!.offset, byteLength, runs };
  };
  return { gate: half(0), up: half(width) };
}

/** Numbers of the layers that keep a feed-forward block. */
export const denseLayers = (dims: ModelDims, isDense: (layer: number) => boolean): number[] =>
  Array.from({ length: dims.layers }, (_, layer) => layer).filter(isDense);
