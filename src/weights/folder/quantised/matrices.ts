/** The tensors of a quantised matrix → one `NAME.weight` that says how to read it. Shapes, types and lengths are checked here. */
import { readSync } from 'node:fs';
import { errors } from '../../../errors.js';
import type { FilePart, PackedMatrix, TensorInfo } from '../../../types.js';
import { readModelFile } from '../../model-file.js';
import type { Quantised } from './config.js';
import { unstacked } from './stacked.js';

type Tensors = ReadonlyMap<string, TensorInfo>;

/** Parts of a matrix that its reader takes; scales of activations and of the KV cache change no weight. */
const PARTS =
  /\.(qweight|qzeros|scales|g_idx|weight_packed|weight_scale|weight_scale_inv|weight_zero_point|weight_g_idx|weight_shape)$/;
const UNUSED =
  /\.(input_scale|input_zero_point|activation_scale|input_scale_ub|[kvq]_scale|output_scale|k_zero_point|v_zero_point)$/;

/** What the parts of a quantised matrix are replaced by. @throws bad_model_file, unsupported_model */
export function unpackable(files: Tensors, q: Quantised | null): Tensors {
  if (!q) return files;
  const tensors = q.method === 'mxfp4' ? unstacked(files, q) : files;
  const out = new Map<string, TensorInfo>();
  for (const [name, t] of tensors) {
    if (UNUSED.test(name)) continue;
    const stem = /^(.+)\.(qweight|weight_packed|weight)$/.exec(name)?.[1];
    const quantised = !name.endsWith('.weight') || ['I8', 'F8_E4M3', 'F8_E5M2'].includes(t.type);
    if (stem !== undefined && quantised) out.set(`${stem}.weight`, new Matrix(tensors, q, stem, t).read());
    else if (!PARTS.test(name)) out.set(name, t);
  }
  for (const name of tensors.keys()) {
    const [, stem] = PARTS.exec(name) ? /^(.+)\.[^.]+$/.exec(name)! : [];
    if (stem !== undefined && !out.get(`${stem}.weight`)?.packed)
      throw errors.badModelFile(q.path, `tensor '${name.slice(0, 200)}' has no quantised weights beside it`);
  }
  return out;
}

/** What a method's reader finds; the rest follows from it. */
type Found = Omit<PackedMatrix, 'row' | 'groupRows' | 'exact' | 'scaleType' | 'scales'> & {
  groupRows?: number;
  scale: TensorInfo;
};

class Matrix {
  constructor(
    private readonly tensors: Tensors,
    private readonly q: Quantised,
    private readonly stem: string,
    private readonly codes: TensorInfo,
  ) {}

  read(): TensorInfo {
    const { codes, q } = this;
    if (codes.name.endsWith('.qweight')) {
      if (q.method === 'awq') return this.#tensor(this.#awq());
      if (q.method === 'gptq') return this.#tensor(this.#gptq());
      throw this.#bad(codes, `does not belong to quant_method '${q.method}'`);
    }
    if (codes.name.endsWith('.weight_packed')) {
      if (q.method !== 'compressed-tensors') throw this.#bad(codes, `does not belong to quant_method '${q.method}'`);
      return this.#tensor(codes.type === 'U8' ? this.#mxfp4() : this.#compressed());
    }
    return this.#tensor(this.#plain());
  }

  #bad(t: TensorInfo, what: string): Error {
    return errors.badModelFile(t.file ?? this.q.path, `tensor '${t.name.slice(0, 200)}' ${what}`);
  }

  #find(part: string): TensorInfo | undefined {
    return this.tensors.get(`${this.stem}.${part}`);
  }

  /** A part in its type and shape (as the file lists it, outermost first). */
  #part(part: string, types: readonly string[], shape: readonly number[]): TensorInfo {
    const t = this.#find(part);
    if (!t) throw errors.badModelFile(this.q.path, `tensor '${this.stem.slice(0, 200)}.${part}' is missing`);
    return this.#checked(t, types, shape);
  }

  #checked(t: TensorInfo, types: readonly string[], shape: readonly number[]): TensorInfo {
    if (!types.includes(t.type)) throw this.#bad(t, `has type ${t.type}, it must be ${types.join(' or ')}`);
    const have = [...t.shape].reverse();
    if (have.length !== shape.length || have.some((n, i) => n !== shape[i]))
      throw this.#bad(t, `has shape (${have.join(', ')}), it must be (${shape.join(', ')})`);
    return t;
  }

  /** Inputs of a group. */
  #group(inputs: number): number {
    const size = this.q.groupSize === 0 ? inputs : this.q.groupSize;
    if (inputs % size !== 0) throw this.#bad(this.codes, `has ${inputs} inputs, no multiple of the group size ${size}`);
    return size;
  }

  #matrix(types: readonly string[]): [outer: number, inner: number] {
    const { codes } = this;
    if (!types.includes(codes.type)) throw this.#bad(codes, `has type ${codes.type}, it must be ${types.join(' or ')}`);
    if (codes.shape.length !== 2) throw this.#bad(codes, 'is no matrix');
    return [codes.shape[1]!, codes.shape[0]!];
  }

  #awq(): Found {
    const [inputs, words] = this.#matrix(['I32']);
    const groupSize = this.#group(inputs);
    const groups = inputs / groupSize;
    const scale = this.#part('scales', FLOATS, [groups, words * 8]);
    const zeros = this.#find('qzeros') && this.#part('qzeros', ['I32'], [groups, words]);
    if (!zeros && !this.q.symmetric) this.#part('qzeros', ['I32'], [groups, words]);
    const zeroKind = zeros ? 'awq' : 'none';
    const zeroAdd = zeros ? 0 : 8;
    const shape = { in: inputs, rows: words * 8, bits: 4, code: 'uint', layout: 'awq', groupSize } as const;
    return { ...shape, scale, scalesByGroup: true, zeroKind, zeroAdd, ...(zeros && { zeros: partOf(zeros) }) };
  }

  #gptq(): Found {
    const { bits, zeroAdd, actOrder } = this.q;
    const [words, rows] = this.#matrix(['I32']);
    const each = 32 / bits;
    const inputs = words * each;
    const groupSize = this.#group(inputs);
    const groups = inputs / groupSize;
    if (rows % each !== 0) throw this.#bad(this.codes, `has ${rows} outputs, no multiple of ${each}`);
    const scale = this.#part('scales', FLOATS, [groups, rows]);
    const zeros = partOf(this.#part('qzeros', ['I32'], [groups, rows / each]));
    const order = this.#order('g_idx', inputs, groups > 1 && actOrder);
    const shape = { in: inputs, rows, bits, code: 'uint', layout: 'gptq', groupSize } as const;
    return { ...shape, scale, scalesByGroup: true, zeroKind: 'gptq', zeroAdd, zeros, ...order };
  }

  #order(part: string, inputs: number, needed: boolean): { order?: FilePart } {
    return needed || this.#find(part) ? { order: partOf(this.#part(part, ['I32'], [inputs])) } : {};
  }

  /** Bytes of 4 or 8 bits in words along the inputs; what the shape was before stands beside them. */
  #compressed(): Found {
    const [rows, words] = this.#matrix(['I32']);
    const [whole, inputs] = this.#shape();
    const bits = words === Math.ceil(inputs / 8) ? 4 : 8;
    if (whole !== rows || words !== Math.ceil((inputs * bits) / 32))
      throw this.#bad(
        this.codes,
        `has shape (${rows}, ${words}): that is neither 4 nor 8 bits of (${whole}, ${inputs})`,
      );
    const scales = this.#groupScales(rows, inputs);
    const zeroShape = [Math.ceil((rows * bits) / 32), inputs / scales.groupSize];
    const zeros = this.#find('weight_zero_point') && partOf(this.#part('weight_zero_point', ['I32'], zeroShape));
    if (zeros) this.#ownScales(scales.groupRows);
    const order = this.#order('weight_g_idx', inputs, false);
    const zero = zeros
      ? ({ zeroKind: 'rows', zeroAdd: 0, zeros } as const)
      : ({ zeroKind: 'none', zeroAdd: 2 ** (bits - 1) } as const);
    return { in: inputs, rows, bits, code: 'uint', layout: 'rows', ...scales, scalesByGroup: false, ...zero, ...order };
  }

  /** Outputs and inputs as `weight_shape` has them: two numbers in the file's data. */
  #shape(): [rows: number, inputs: number] {
    const t = this.#part('weight_shape', ['I64', 'I32'], [2]);
    const bytes = Buffer.alloc(t.byteLength);
    readModelFile(
      t.file!,
      (what) => errors.badModelFile(t.file!, what),
      (fd) => readSync(fd, bytes, 0, bytes.length, t.offset),
    );
    const at = (i: number) => (t.type === 'I64' ? Number(bytes.readBigInt64LE(8 * i)) : bytes.readInt32LE(4 * i));
    const ok = [at(0), at(1)].every((n) => Number.isSafeInteger(n) && n >= 1);
    if (!ok) throw this.#bad(t, `says (${at(0)}, ${at(1)})`);
    return [at(0), at(1)];
  }

  /** Scales (rows, groups) or (rows) or one. */
  #groupScales(rows: number, inputs: number): { scale: TensorInfo; groupSize: number; groupRows: number } {
    const name = this.#find('weight_scale') ? 'weight_scale' : 'weight_scale_inv';
    const scale = this.#find(name);
    if (!scale) throw errors.badModelFile(this.q.path, `tensor '${this.stem.slice(0, 200)}.weight_scale' is missing`);
    const shape = [...scale.shape].reverse();
    const count = shape.reduce((a, b) => a * b, 1);
    if (!FLOATS.includes(scale.type))
      throw this.#bad(scale, `has type ${scale.type}, it must be ${FLOATS.join(' or ')}`);
    if (count === 1) return { scale, groupSize: inputs, groupRows: rows };
    if (count === rows && shape[0] === rows) return { scale, groupSize: inputs, groupRows: 1 };
    const { block, method } = this.q;
    const [perRows, per] = block ?? [1, 0];
    if (shape.length === 2 && block && shape[0] === Math.ceil(rows / perRows) && shape[1] === Math.ceil(inputs / per))
      return { scale, groupSize: per, groupRows: perRows };
    // of compressed-tensors some matrices may be in blocks, others in groups
    const grouped = !block || method === 'compressed-tensors';
    if (shape.length === 2 && grouped && shape[0] === rows && inputs % shape[1]! === 0)
      return { scale, groupSize: inputs / shape[1]!, groupRows: 1 };
    throw this.#bad(scale, `has shape (${shape.join(', ')}), which does not divide (${rows}, ${inputs})`);
  }

  /** E2M1 with a power of two for 32 inputs. */
  #mxfp4(): Found {
    const [rows, bytes] = this.#matrix(['U8']);
    const inputs = 2 * bytes;
    if (inputs % 32 !== 0) throw this.#bad(this.codes, `has ${inputs} inputs, no multiple of 32`);
    const scale = this.#part('weight_scale', ['U8', 'F8_E8M0'], [rows, inputs / 32]);
    const shape = { in: inputs, rows, bits: 4, code: 'e2m1', layout: 'rows', groupSize: 32 } as const;
    return { ...shape, scale, scalesByGroup: false, zeroKind: 'none', zeroAdd: 0 };
  }

  /** A byte for each value: int8 or FP8. */
  #plain(): Found {
    const byMethod = {
      fp8: ['F8_E4M3'],
      'compressed-tensors': ['I8', 'F8_E4M3'],
      awq: FLOATS,
      gptq: FLOATS,
      mxfp4: FLOATS,
    };
    const [rows, inputs] = this.#matrix(byMethod[this.q.method]);
    const scales = this.#groupScales(rows, inputs);
    const code = this.codes.type === 'I8' ? 'int8' : 'e4m3';
    const zeroShape = [rows, Math.ceil(inputs / scales.groupSize)];
    const given = code === 'int8' && this.#find('weight_zero_point');
    const zeros = given ? partOf(this.#part('weight_zero_point', ['I8'], zeroShape)) : undefined;
    if (zeros) this.#ownScales(scales.groupRows);
    const order = this.#order('weight_g_idx', inputs, false);
    const zero = zeros ? ({ zeroKind: 'int8', zeros } as const) : ({ zeroKind: 'none' } as const);
    return {
      in: inputs,
      rows,
      bits: 8,
      code,
      layout: 'rows',
      ...scales,
      scalesByGroup: false,
      zeroAdd: 0,
      ...zero,
      ...order,
    };
  }

  /** One zero point for all outputs is not read. */
  #ownScales(groupRows: number): void {
    if (groupRows !== 1)
      throw errors.unsupportedModel(
        `its tensor '${this.stem.slice(0, 200)}.weight_zero_point' has one value for all outputs`,
      );
  }

  #tensor({ scale, groupRows = 1, ...found }: Found): TensorInfo {
    const { codes } = this;
    const form = formOf(found, this.q);
    const byteLength = (found.in * found.rows * found.bits) / 8;
    const scaleType = (
      scale.type === 'U8' || scale.type === 'F8_E8M0' ? 'E8M0' : scale.type
    ) as PackedMatrix['scaleType'];
    const packed: PackedMatrix = { ...found, row: 0, groupRows, scales: partOf(scale), scaleType, exact: form.exact };
    return { ...codes, type: form.type, shape: [found.in, found.rows], byteLength, packed };
  }
}

const FLOATS = ['F32', 'F16', 'BF16'];

const partOf = (t: TensorInfo): FilePart => ({ file: t.file!, offset: t.offset, byteLength: t.byteLength });

/**
 * What the matrix becomes in memory: the type whose blocks hold these codes and scales as they are; else the values are
 * rounded to 8 bits with a scale for 32 of them, or to BF16 where 32 do not divide a row.
 */
function formOf(
  m: Omit<PackedMatrix, 'row' | 'groupRows' | 'exact' | 'scaleType' | 'scales'>,
  q: Quantised,
): { type: string; exact: boolean } {
  if (m.in % 32 !== 0) return { type: 'BF16', exact: false };
  const oneGroup = m.groupSize >= m.in;
  const shuffled = m.order !== undefined && !oneGroup && (q.method !== 'gptq' || q.actOrder);
  if (shuffled || m.code === 'e4m3' || (m.groupSize % 32 !== 0 && !oneGroup)) return { type: 'Q8_0', exact: false };
  if (m.code === 'e2m1') return { type: 'MXFP4', exact: true };
  const sameZero = m.zeroKind === 'none' || (q.method !== 'compressed-tensors' && q.symmetric);
  if (m.bits === 8) return { type: 'Q8_0', exact: sameZero };
  return { type: sameZero ? 'Q4_0' : 'Q4_1', exact: true };
}
