/** Which files of a folder hold its weights, and the tensors of all of them. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { errors } from '../../errors.js';
import type { TensorInfo } from '../../types.js';
import { isObject, readJson, shown } from './json.js';
import { readSafetensors } from './safetensors.js';

const INDEX = 'model.safetensors.index.json';
const SINGLE = 'model.safetensors';
const MAX_INDEX = 64 * 2 ** 20;
/** A name within the folder: never a path. */
const SHARD = /^[\w][\w.-]*\.safetensors$/;

/** Names of the files that an index names. @throws bad_model_file */
function shardNames(indexPath: string, index: Record<string, unknown>): Map<string, string> {
  const { weight_map: map } = index;
  if (!isObject(map)) throw errors.badModelFile(indexPath, "'weight_map' is not an object");
  const shards = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== 'string' || !SHARD.test(file) || file.includes('..'))
      throw errors.badModelFile(
        indexPath,
        `tensor '${tensor.slice(0, 200)}' is said to be in ${shown(file)}, which is no name of a file`,
      );
    shards.set(tensor, file);
  }
  return shards;
}

/** By the names in the files. @throws file_missing, bad_model_file, unsupported_model */
export function readShards(folder: string): Map<string, TensorInfo> {
  const indexPath = path.join(folder, INDEX);
  const index = readJson(indexPath, MAX_INDEX);
  if (!index) return readSafetensors(path.join(folder, singleFile(folder)));
  const shards = shardNames(indexPath, index);
  const files = new Map([...new Set(shards.values())].map((f) => [f, readSafetensors(path.join(folder, f))]));
  const tensors = new Map<string, TensorInfo>();
  for (const [name, file] of shards) {
    const tensor = files.get(file)!.get(name);
    if (!tensor) throw errors.badModelFile(indexPath, `tensor '${name}' is not in '${file}', where it should be`);
    tensors.set(name, tensor);
  }
  return tensors;
}

/** The one file of a model that is not split. */
function singleFile(folder: string): string {
  if (existsSync(path.join(folder, SINGLE))) return SINGLE;
  const names = readdirSync(folder);
  const found = names.filter((n) => SHARD.test(n) && !/^(consolidated|adapter_model)/.test(n));
  if (found.length === 1) return found[0]!;
  if (names.includes('adapter_config.json'))
    throw errors.unsupportedModel(`'${folder}' holds a LoRA adapter, not a model`);
  const pickled = names.find((n) => /\.(bin|pt|pth|ckpt|pkl)$/i.test(n));
  if (found.length === 0 && pickled)
    throw errors.unsupportedModel(
      `'${folder}' holds its weights pickled ('${pickled}'), a format that runs code when it is read: use safetensors`,
    );
  throw errors.badModelFile(
    path.join(folder, INDEX),
    found.length === 0 ? 'there are no weights in safetensors beside it' : 'it is missing, and there are several files',
  );
}
