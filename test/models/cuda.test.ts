/** The CUDA device takes the folders whose operations its kernels have, and refuses the others by what they lack. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { WeightsChoice } from '../../src/config.js';
import { createCudaDevice } from '../../src/device/cuda/index.js';
import { LongmindError } from '../../src/errors.js';
import { llama } from '../../src/model/llama.js';
import { openModel } from '../../src/weights/index.js';
import { FakeDriver, fakeCompile } from '../device/cuda/fake-driver.js';
import { Runner } from '../device/support.js';
import { checkpoint, readFixture, writeFolder } from './tiny.js';

const runnerOf = (name: string, weights?: WeightsChoice) => runnerOfFolder(writeFolder(readFixture(name)), weights);

function runnerOfFolder(folder: string, weights: WeightsChoice = 'file'): Runner {
  const { config, source } = openModel(folder, { sessionLen: 0, weights });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  const device = createCudaDevice({ driver: new FakeDriver(), compile: fakeCompile });
  const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
  return new Runner({ program, source, tensors: new Map() }, { device, session: 512 });
}

describe('the CUDA device', () => {
  for (const name of ['llama', 'llama3-scaled', 'llama-yarn', 'qwen2', 'phi4-mini', 'internlm3'])
    it(`loads ${name} from its files and runs it`, () => {
      const runner = runnerOf(name);
      runner.run([{ slot: 0, position: 0, tokens: [1, 2, 3] }]);
      runner.close();
    });
  const lacking: [string, RegExp, WeightsChoice?][] = [
    ['qwen3', /norm of each head/],
    ['olmo2', /norm of queries and keys|norm after/],
    ['gemma', /scale of the embeddings/],
    ['gemma2', /scale of the embeddings/],
    ['granite', /scale of the embeddings/],
    ['mistral', /sliding window/],
    ['smollm3', /without rotary positions/],
    ['mixtral', /sliding window/],
    ['qwen3-moe', /norm of each head/],
    ['qwen2-moe', /mixtures of experts/],
    ['internlm2', /pieces of a file/],
    ['llama', /make weights Q8_0/, 'q8'],
  ];
  for (const [name, what, weights] of lacking)
    it(`refuses ${name}${weights ? ` with weights ${weights}` : ''} by what it lacks`, () =>
      assert.throws(
        () => runnerOf(name, weights),
        (e) => e instanceof LongmindError && e.code === 'unsupported_model' && what.test(e.message),
        name,
      ));
  for (const name of ['awq-32', 'gptq4-32', 'ct-fp8-tensor', 'ct-mxfp4'])
    it(`refuses the quantised checkpoint ${name}, and says where it can be computed`, () =>
      assert.throws(() => runnerOfFolder(checkpoint(name).folder), {
        code: 'unsupported_model',
        message: /quantised as AWQ.*--device cpu/,
      }));
});
