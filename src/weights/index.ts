export { GGML_TYPES } from './ggml-types.js';
export { type GgufFile, readGguf } from './gguf.js';
export {
  checkTensorTypes,
  type ModelConfig,
  readModelConfig,
} from './model-config.js';
export { fingerprintOf, type ModelFiles, openModel, weightsKeyOf } from './open.js';
export { StringList } from './string-list.js';
