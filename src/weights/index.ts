export { GGML_TYPES } from './ggml-types.js';
export type { GgufFile } from './gguf.js';
export { readGguf } from './gguf-split.js';
export { HeaderReader } from './header-reader.js';
export { readValue } from './metadata.js';
export {
  checkTensorTypes,
  type ModelConfig,
  readModelConfig,
} from './model-config.js';
export { fingerprintOf, type ModelFiles, openModel, weightsKeyOf } from './open.js';
export { StringList } from './string-list.js';
