/** Matrices of quantised checkpoints in plain TypeScript, written for clarity: value by value, from the formats' descriptions. */
import fs from 'node:fs';
import type { FilePart, PackedMatrix } from '../../src/types.js';
import { halfToNumber } from './formats.js';

function bytesOf({ file, offset, byteLength }: FilePart): DataView {
  const bytes = new Uint8Array(byteLength);
  const fd = fs.openSync(file, 'r');
  fs.readSync(fd, bytes, 0, byteLength, offset);
  fs.closeSync(fd);
  return new DataView(bytes.buffer);
}

const AWQ = [0, 4, 1, 5, 2, 6, 3, 7];
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

function numberOf(code: PackedMatrix['code'], k: number): number {
  const sign = k & (code === 'e2m1' ? 8 : 128) ? -1 : 1;
  if (code === 'uint') return k;
  if (code === 'int8') return (k << 24) >> 24;
  if (code === 'e2m1') return sign * E2M1[k & 7]!;
  const e = (k >> 3) & 15;
  return sign * (e ? (1 + (k & 7) / 8) * 2 ** (e - 7) : ((k & 7) / 8) * 2 ** -6);
}

function scaleOf(d: DataView, type: PackedMatrix['scaleType'], i: number): number {
  if (type === 'F32') return d.getFloat32(4 * i, true);
  if (type === 'F16') return halfToNumber(d.getUint16(2 * i, true));
  if (type === 'E8M0') return 2 ** (d.getUint8(i) - 127);
  const bits = new DataView(new ArrayBuffer(4));
  bits.setUint16(0, d.getUint16(2 * i, true));
  return bits.getFloat32(0);
}

/** Values of so many rows from `row` on; the codes of the whole matrix begin at `offset`. */
export function decodePacked(
  at: { file: string; offset: number; row: number; rows: number },
  p: PackedMatrix,
): Float32Array {
  const { file, offset, row, rows } = at;
  const codes = bytesOf({ file, offset, byteLength: (p.in * p.rows * p.bits) / 8 });
  const scales = bytesOf(p.scales);
  const zeros = p.zeros && bytesOf(p.zeros);
  const order = p.order && bytesOf(p.order);
  const each = 32 / p.bits;
  const field = (d: DataView, word: number, place: number) =>
    (d.getUint32(4 * word, true) >>> (p.bits * place)) & (2 ** p.bits - 1);
  const groups = Math.ceil(p.in / p.groupSize);
  const codeAt = (o: number, i: number) => {
    if (p.layout === 'awq') return field(codes, i * (p.rows / 8) + (o >> 3), AWQ[o & 7]!);
    if (p.layout === 'gptq') return field(codes, Math.floor(i / each) * p.rows + o, i % each);
    return field(codes, Math.floor((o * p.in + i) / each), (o * p.in + i) % each);
  };
  const zeroAt = (o: number, g: number) => {
    if (!zeros) return p.zeroAdd;
    const along = Math.floor(o / each);
    if (p.zeroKind === 'int8') return zeros.getInt8(o * groups + g);
    if (p.zeroKind === 'rows') return field(zeros, along * groups + g, o % each);
    const place = p.zeroKind === 'awq' ? AWQ[o & 7]! : o % each;
    return field(zeros, g * (p.rows / each) + along, place) + p.zeroAdd;
  };
  return Float32Array.from({ length: rows * p.in }, (_, k) => {
    const o = row + Math.floor(k / p.in);
    const i = k % p.in;
    const g = order ? order.getInt32(4 * i, true) : Math.floor(i / p.groupSize);
    const block = Math.floor(o / p.groupRows);
    const s = p.scalesByGroup ? g * Math.ceil(p.rows / p.groupRows) + block : block * groups + g;
    return (numberOf(p.code, codeAt(o, i)) - zeroAt(o, g)) * scaleOf(scales, p.scaleType, s);
  });
}
