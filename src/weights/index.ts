export { FILE_TYPES, GGML_TYPES } from './ggml-types.js';
export { type GgufFile, type GgufValue, readGguf } from './gguf.js';
export {
  checkTensorTypes,
  KNOWN_TENSOR_TYPES,
  type ModelConfig,
  type Quantisation,
  readModelConfig,
  SUPPORTED_ARCHITECTURES,
} from './model-config.js';
export type { Rope } from './rope.js';
export { StringList } from './string-list.js';
