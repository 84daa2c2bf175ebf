/** What the model in a folder is, from its config.json and the headers of its weights. */
import path from 'node:path';
import { errors } from '../../errors.js';
import type { FamilyFlags, ModelDims, TensorInfo } from '../../types.js';
import { type ModelConfig, summarise } from '../model-config.js';
import { biasesOf, checkTensors, neededTensors } from '../shapes.js';
import { FOLDER_FAMILIES, type FolderContext, type FolderFamily, readLayerFlags } from './families.js';
import { Fields, readJson } from './json.js';
import { byRole } from './names.js';
import { readQuantisation } from './quantised/config.js';
import { unpackable } from './quantised/matrices.js';
import { readFolderRope } from './rope.js';
import { readShards } from './shards.js';

const MAX_CONFIG = 4 * 2 ** 20;
const NOTHING = /^$/;
const ACTIVATIONS: Readonly<Record<string, FamilyFlags['activation']>> = {
  silu: 'silu',
  swish: 'silu',
  gelu_pytorch_tanh: 'geluTanh',
};

/**
 * `sessionLen`: longest sequence that will be (0: the context length).
 * @throws LongmindError unsupported_architecture, unsupported_model, bad_model_file, file_missing, io_error
 */
export function readFolderConfig(folder: string, sessionLen = 0): ModelConfig {
  const file = path.join(folder, 'config.json');
  const json = readJson(file, MAX_CONFIG);
  if (!json) throw errors.badModelFile(file, 'it is missing: this folder holds no model');
  const whole = new Fields(file, json);
  const type = whole.text('model_type', '');
  const family = Object.hasOwn(FOLDER_FAMILIES, type) ? FOLDER_FAMILIES[type] : undefined;
  if (!family) throw errors.unsupportedArchitecture(type.slice(0, 100) || 'unnamed', Object.keys(FOLDER_FAMILIES));
  const config = (family.textOf && whole.child('text_config')) || whole;
  return describe(folder, type, family, config, whole, sessionLen);
}

function describe(
  folder: string,
  type: string,
  family: FolderFamily,
  config: Fields,
  whole: Fields,
  sessionLen: number,
): ModelConfig {
  const files = unpackable(readShards(folder), readQuantisation(whole) ?? readQuantisation(config));
  const dims = readDims(config, family, files);
  const defaultTheta = family.textOf || type === 'gemma3_text' ? 1e6 : 10_000;
  const { headDim, contextLength } = dims;
  const needs = { headDim, contextLength, sessionLen: sessionLen || contextLength, defaultTheta };
  const context: FolderContext = { config, dims, needs, rope: readFolderRope(config, needs) };
  const own = family.flags?.(context) ?? {};
  const tensors = byRole(config.path, files, family, own.norms ?? 'pre', dims, own.experts?.width ?? 0);
  const tiedOutput = isTied(family, config, whole, tensors);
  if (tiedOutput) tensors.delete('output.weight');
  const flags: Partial<FamilyFlags> = {
    ...own,
    activation: readActivation(config, family),
    biases: biasesOf(tensors),
    perLayer: readLayerFlags(family, context),
  };
  checkTensors(config.path, tensors, neededTensors(dims, tiedOutput, flags), NOTHING);
  const quantisation = summarise(tensors.values());
  return {
    architecture: type,
    name: path.basename(path.resolve(folder)),
    dims,
    rmsEps: config.positive('rms_norm_eps', 1e-6),
    rope: context.rope,
    tiedOutput,
    flags,
    tensors,
    parameters: Object.values(quantisation.byType).reduce((n, t) => n + t.parameters, 0),
    quantisation,
  };
}

function readDims(config: Fields, family: FolderFamily, files: ReadonlyMap<string, TensorInfo>): ModelDims {
  // fields that Gemma 3 leaves out where they are the class's own
  const usual = family.textOf ? { heads: 8, kvHeads: 4, headDim: 256, vocab: 262_208, context: 131_072 } : null;
  const heads = config.integer('num_attention_heads', usual?.heads, 1, 65_536);
  const kvHeads = config.integer('num_key_value_heads', usual?.kvHeads ?? heads, 1, heads);
  if (heads % kvHeads !== 0)
    throw errors.badModelFile(config.path, `${heads} attention heads cannot share ${kvHeads} KV heads evenly`);
  const dim = config.integer('hidden_size');
  const vocab = config.integer('vocab_size', usual?.vocab);
  const embedding = [...files].find(([name]) => /(embed_tokens|tok_embeddings)\.weight$/.test(name))?.[1];
  return {
    layers: config.integer('num_hidden_layers', undefined, 1, 10_000),
    dim,
    heads,
    kvHeads,
    headDim: config.integer('head_dim', usual?.headDim ?? dim / heads, 1, 65_536),
    ffDim: config.integer('intermediate_size'),
    // padded embeddings have more rows than the vocabulary has tokens
    vocab: Math.max(vocab, embedding?.shape[1] ?? 0),
    contextLength: config.integer('max_position_embeddings', usual?.context, 1, 2 ** 24),
  };
}

function isTied(
  family: FolderFamily,
  config: Fields,
  whole: Fields,
  tensors: ReadonlyMap<string, TensorInfo>,
): boolean {
  const own = tensors.has('output.weight');
  const said = config.has('tie_word_embeddings') ? config : whole;
  if (said.has('tie_word_embeddings')) return said.flag('tie_word_embeddings', false);
  return family.tied === true || !own;
}

function readActivation(config: Fields, family: FolderFamily): FamilyFlags['activation'] {
  const field = family.activationField ?? 'hidden_act';
  // what `hidden_act` of the first Gemma says is not what it means
  const name = config.text(field, family.activationField ? 'gelu_pytorch_tanh' : 'silu');
  const found = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (found) return found;
  const known = Object.keys(ACTIVATIONS).join(', ');
  throw errors.unsupportedModel(`its activation is '${name.slice(0, 80)}' (supported: ${known})`);
}
