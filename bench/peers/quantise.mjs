/**
 * node quantise.mjs IN.gguf OUT.gguf [Q4_K_M]: llama.cpp's own quantiser, out of the library that node-llama-cpp brings.
 * What is quantised already is quantised again.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';

const FILE_TYPES = {
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 7,
  Q5_0: 8,
  Q5_1: 9,
  Q4_K_S: 14,
  Q4_K_M: 15,
  Q5_K_S: 16,
  Q5_K_M: 17,
  Q6_K: 18,
  IQ4_NL: 25,
  IQ4_XS: 30,
  Q2_K: 10,
  Q3_K_M: 12,
  F32: 0,
};

const [input, output, type = 'Q4_K_M'] = process.argv.slice(2);
if (!(type in FILE_TYPES)) throw new Error(`'${type}' is none of ${Object.keys(FILE_TYPES).join(', ')}`);
const peers = process.env.PEERS ?? import.meta.dirname;
const folder = path.join(peers, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64');
const library = koffi.load(
  path.join(
    folder,
    readdirSync(folder).find((n) => n.startsWith('libllama.')),
  ),
);
// the beginning of llama_model_quantize_params, and room for the rest
const Params = koffi.struct('Params', {
  threads: 'int',
  fileType: 'int',
  outputType: 'int',
  embeddingType: 'int',
  allowRequantize: 'uint8',
  flags: koffi.array('uint8', 7),
  rest: koffi.array('uint64', 16),
});
const params = library.func('llama_model_quantize_default_params', Params, [])();
params.fileType = FILE_TYPES[type];
params.allowRequantize = 1;
const run = library.func('llama_model_quantize', 'uint32', ['str', 'str', koffi.pointer(Params)]);
process.exit(run(input, output, params));
