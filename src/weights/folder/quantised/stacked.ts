/** Experts of a checkpoint in MXFP4, stacked: `NAME_blocks` (experts, outputs, inputs / 32, 16) and `NAME_scales` (experts, outputs, inputs / 32). */
import { errors } from '../../../errors.js';
import type { PackedMatrix, TensorInfo } from '../../../types.js';
import type { Quantised } from './config.js';

type Tensors = ReadonlyMap<string, TensorInfo>;

/** Bytes of a block of 32 values. */
const BLOCK = 16;
const MAX_EXPERTS = 65_536;

/** The tensors, each pair of blocks and scales as one of (inputs, outputs, experts). @throws bad_model_file */
export function unstacked(tensors: Tensors, q: Quantised): Map<string, TensorInfo> {
  const out = new Map<string, TensorInfo>();
  for (const [name, t] of tensors) {
    const [, stem, part] = /^(.+)_(blocks|scales)$/.exec(name) ?? [];
    if (stem === undefined) out.set(name, t);
    else if (part === 'blocks') out.set(stem, stacked(stem, t, tensors.get(`${stem}_scales`), q));
    else if (!tensors.has(`${stem}_blocks`))
      throw errors.badModelFile(q.path, `tensor '${name.slice(0, 200)}' has no quantised weights beside it`);
  }
  return out;
}

/** One matrix for each expert: its codes and scales lie together. */
function stacked(name: string, blocks: TensorInfo, scales: TensorInfo | undefined, q: Quantised): TensorInfo {
  const bad = (t: TensorInfo, what: string) =>
    errors.badModelFile(t.file ?? q.path, `tensor '${t.name.slice(0, 200)}' ${what}`);
  if (!scales) throw errors.badModelFile(q.path, `tensor '${name.slice(0, 200)}_scales' is missing`);
  const [size, groups, rows, experts] = blocks.shape;
  if (blocks.type !== 'U8' || blocks.shape.length !== 4 || size !== BLOCK || experts! > MAX_EXPERTS)
    throw bad(
      blocks,
      `is ${blocks.type} of shape (${[...blocks.shape].reverse().join(', ')}), it must be U8 of (experts, outputs, blocks, ${BLOCK})`,
    );
  const wanted = [groups!, rows!, experts!];
  if (scales.type !== 'U8' || scales.shape.length !== 3 || scales.shape.some((n, i) => n !== wanted[i]))
    throw bad(
      scales,
      `is ${scales.type} of shape (${[...scales.shape].reverse().join(', ')}), it must be U8 of (${wanted.reverse().join(', ')})`,
    );
  const bytes = { blocks: blocks.byteLength / experts!, scales: scales.byteLength / experts! };
  const expert = (e: number): PackedMatrix => ({
    ...{ in: 32 * groups!, rows: rows!, row: 0, layout: 'rows', bits: 4, code: 'e2m1', groupSize: 32, groupRows: 1 },
    scales: { file: scales.file!, offset: scales.offset + e * bytes.scales, byteLength: bytes.scales },
    ...{ scaleType: 'E8M0', scalesByGroup: false, zeroKind: 'none', zeroAdd: 0, exact: true },
  });
  const runs = Array.from({ length: experts! }, (_, e) => ({
    ...{ offset: blocks.offset + e * bytes.blocks, rows: rows! },
    packed: expert(e),
  }));
  return { ...blocks, name, type: 'MXFP4', shape: [32 * groups!, rows!, experts!], packed: runs[0]!.packed, runs };
}
