/**
 * The real engine over the null device, with the vocabulary of a real model: fast, and its answers are nonsense, but the same
 * nonsense for the same context; any wrong block changes them.
 */
import { createEngine } from '../../src/index.js';
import type { Engine } from '../../src/types.js';
import { smollmPath } from '../support/model.js';
import { bundledModelPath } from '../support/model-file.js';

/** The bundled model, else the default one; null where neither can be had. */
export const modelPath: string | null = bundledModelPath() ?? (await smollmPath());

export const withoutModel: string | false = modelPath
  ? false
  : 'there is no model here: the live view is NOT tested over the real engine';
if (withoutModel) console.warn(withoutModel);

export const nullEngine = (blocks: number): Promise<Engine> =>
  createEngine({
    model: modelPath!,
    device: 'null',
    cacheMaxEntryCount: blocks,
    cacheBlockSeqLen: 16,
    maxBatchSize: 16,
    maxPrefillTokenNum: 128,
  });
