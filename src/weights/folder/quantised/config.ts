/** `quantization_config` of config.json: which method, and what of it the tensors do not say themselves. */
import { errors } from '../../../errors.js';
import { type Fields, shown } from '../json.js';

export interface Quantised {
  path: string;
  method: 'awq' | 'gptq' | 'fp8' | 'mxfp4' | 'compressed-tensors';
  /** AWQ and GPTQ: bits of a code, inputs of a group (0: all), whether codes have their zero point in the middle. */
  bits: 4 | 8;
  groupSize: number;
  symmetric: boolean;
  /** GPTQ: groups are no runs of inputs; what is added to stored zero points. */
  actOrder: boolean;
  zeroAdd: number;
  /** FP8 in blocks: outputs and inputs of a block; null: one scale for all, or one for each output. */
  block: readonly [rows: number, inputs: number] | null;
}

/** Fields that say how the checkpoint was made, or how other programs compute with it: they change no weight. */
const COMMON = ['quant_method', 'modules_to_not_convert'];
const KNOWN: Readonly<Record<Quantised['method'], readonly string[]>> = {
  awq: [
    ...['bits', 'w_bit', 'group_size', 'q_group_size', 'zero_point', 'version', 'backend', 'do_fuse', 'exllama_config'],
    ...['fuse_max_seq_len', 'modules_to_fuse'],
  ],
  gptq: [
    ...[
      'bits',
      'group_size',
      'desc_act',
      'sym',
      'checkpoint_format',
      'static_groups',
      'dynamic',
      'true_sequential',
      'damp_percent',
    ],
    ...['damp_auto_increment', 'lm_head', 'meta', 'model_name_or_path', 'model_file_base_name', 'is_marlin_format'],
    ...['quantizer', 'tokenizer', 'dataset', 'exllama_config', 'use_exllama', 'max_input_length', 'batch_size'],
    ...['block_name_to_quantize', 'module_name_preceding_first_block', 'modules_in_block_to_quantize', 'model_seqlen'],
    ...['pad_token_id', 'cache_block_outputs', 'use_cuda_fp16', 'disable_exllama', 'backend', 'format', 'pack_dtype'],
  ],
  fp8: [
    'activation_scheme',
    'weight_block_size',
    'fmt',
    'ignored_layers',
    'scale_fmt',
    'activation_scale_ub',
    'dequantize',
  ],
  mxfp4: ['dequantize'],
  'compressed-tensors': [
    ...['format', 'quantization_status', 'config_groups', 'ignore', 'kv_cache_scheme', 'sparsity_config'],
    ...['global_compression_ratio', 'version', 'transform_config', 'run_compressed'],
  ],
};

/** null where the weights are as they were trained. @throws unsupported_model, bad_model_file */
export function readQuantisation(config: Fields): Quantised | null {
  const q = config.child('quantization_config') ?? config.child('compression_config');
  if (!q) return null;
  const named = q.text('quant_method', 'unnamed').slice(0, 80);
  const method = named === 'fbgemm_fp8' ? 'fp8' : named;
  if (!isMethod(method))
    throw unsupported('quant_method', `is '${named}' (supported: ${Object.keys(KNOWN).join(', ')}, fbgemm_fp8)`);
  const stranger = Object.keys(q.object).find((name) => ![...COMMON, ...KNOWN[method]].includes(name));
  if (stranger !== undefined) throw unsupported(stranger.slice(0, 80), `is not known for ${named}`);
  const plain: Quantised = {
    path: q.path,
    method,
    bits: 4,
    groupSize: 0,
    symmetric: true,
    actOrder: false,
    zeroAdd: 0,
    block: null,
  };
  if (method === 'awq') return { ...plain, ...readAwq(q) };
  if (method === 'gptq') return { ...plain, ...readGptq(q) };
  if (method === 'fp8') return { ...plain, block: readFp8(q) };
  return method === 'compressed-tensors' ? { ...plain, block: readCompressed(q) } : plain;
}

const isMethod = (name: string): name is Quantised['method'] => Object.hasOwn(KNOWN, name);

const unsupported = (field: string, what: string) =>
  errors.unsupportedModel(`its quantization_config: '${field}' ${what}`);

/** A field that must have one of some values. */
function oneOf(q: Fields, name: string, values: readonly unknown[], fallback: unknown): unknown {
  const value = q.has(name) ? q.object[name] : fallback;
  if (!values.includes(value))
    throw unsupported(name, `is ${shown(value)} (supported: ${values.map(shown).join(', ')})`);
  return value;
}

/** 0: one group for all inputs. */
function groupSize(q: Fields, name: string): number {
  return q.object[name] === -1 ? 0 : q.integer(name, 128);
}

function readAwq(q: Fields): Partial<Quantised> {
  oneOf(q, q.has('w_bit') ? 'w_bit' : 'bits', [4], 4);
  const version = q.text('version', 'gemm').toLowerCase();
  if (version !== 'gemm') throw unsupported('version', `is '${version.slice(0, 80)}' (supported: gemm)`);
  const size = groupSize(q, q.has('q_group_size') ? 'q_group_size' : 'group_size');
  return { groupSize: size, symmetric: !q.flag('zero_point', true) };
}

function readGptq(q: Fields): Partial<Quantised> {
  const bits = oneOf(q, 'bits', [4, 8], undefined) as 4 | 8;
  const format = oneOf(q, q.has('format') ? 'format' : 'checkpoint_format', ['gptq', 'gptq_v2'], 'gptq');
  oneOf(q, 'is_marlin_format', [false], false);
  oneOf(q, 'pack_dtype', ['int32'], 'int32');
  // modules that were left out the tensors tell; others have bits and groups of their own
  const own = Object.keys(q.child('dynamic')?.object ?? {}).find((pattern) => !pattern.startsWith('-:'));
  if (own !== undefined) throw unsupported('dynamic', `has an entry of its own for '${own.slice(0, 80)}'`);
  return {
    bits,
    groupSize: groupSize(q, 'group_size'),
    symmetric: q.flag('sym', true),
    actOrder: q.flag('desc_act', false),
    zeroAdd: format === 'gptq' ? 1 : 0,
  };
}

function readFp8(q: Fields): Quantised['block'] {
  oneOf(q, 'fmt', ['e4m3', 'float8_e4m3fn'], 'e4m3');
  oneOf(q, 'activation_scheme', ['dynamic', 'static'], 'dynamic');
  return readBlock(q, 'weight_block_size');
}

/** Outputs and inputs of a block. */
function readBlock(q: Fields, name: string): Quantised['block'] {
  const block = q.numbers(name);
  if (!block) return null;
  if (block.length !== 2 || !block.every((n) => Number.isInteger(n) && n >= 1 && n < 2 ** 20))
    throw q.bad(name, 'two positive integers');
  return [block[0]!, block[1]!];
}

const FORMATS = ['pack-quantized', 'int-quantized', 'naive-quantized', 'float-quantized', 'mxfp4-pack-quantized'];

/** Which matrices, bits, groups and zero points there are the tensors say; here blocks, and that nothing else is meant. */
function readCompressed(q: Fields): Quantised['block'] {
  oneOf(q, 'format', [...FORMATS, 'mixed-precision'], undefined);
  oneOf(q, 'quantization_status', ['compressed', 'frozen'], 'compressed');
  const sparse = q.child('sparsity_config');
  if (sparse?.has('format')) oneOf(sparse, 'format', ['dense'], 'dense');
  const transforms = q.child('transform_config');
  if (
    transforms &&
    Object.keys(transforms.object).length > 0 &&
    Object.keys(transforms.child('config_groups')?.object ?? {}).length > 0
  )
    throw unsupported('transform_config', 'rotates activations, which is not computed here');
  const groups = q.child('config_groups');
  if (!groups) throw q.bad('config_groups', 'an object');
  let block: Quantised['block'] = null;
  for (const name of Object.keys(groups.object)) {
    const group = groups.child(name);
    if (group?.has('format')) oneOf(group, 'format', FORMATS, undefined);
    const weights = group?.child('weights');
    if (!weights) throw unsupported(`config_groups.${name.slice(0, 80)}.weights`, 'is missing');
    oneOf(weights, 'num_bits', [4, 8], undefined);
    const type = oneOf(weights, 'type', ['int', 'float'], 'int');
    const mx = (group?.text('format', '') || q.text('format', '')).startsWith('mxfp4');
    if (type === 'float' && weights.integer('num_bits') === 4 && !mx)
      throw unsupported(`config_groups.${name.slice(0, 80)}.weights.num_bits`, 'is 4 of floats that are not mxfp4');
    oneOf(weights, 'strategy', ['tensor', 'channel', 'group', 'block'], weights.has('group_size') ? 'group' : 'tensor');
    if (weights.object.strategy === 'block') block = readBlock(weights, 'block_structure');
  }
  return block;
}
