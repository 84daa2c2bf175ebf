/**
 * An engine that keeps nothing, as a process of its own: bench/random-sessions.ts asks it again what it asked another. Greedy. (Two engines of
 * one process must not share several GPUs: kernels that wait for another GPU may keep those out that it would need.)
 */
import './plain-errors.js';
import { createEngine } from '../src/index.js';

export interface PlainQuestion {
  id: number;
  prompt: number[];
  maxTokens: number;
}
export interface PlainAnswer {
  id: number;
  tokenIds?: number[];
  error?: string;
}

const [model = '', device = 'cpu', sessionLen, blockLen] = process.argv.slice(2);
const engine = await createEngine({
  ...{ model, device, sessionLen: Number(sessionLen), cacheBlockSeqLen: Number(blockLen) },
  ...{ cacheMaxEntryCount: 200, enablePrefixCaching: false },
});
const say = (answer: PlainAnswer) => process.connected && process.send!(answer);

process.on('message', ({ id, prompt, maxTokens }: PlainQuestion) => {
  engine
    .complete({ prompt, maxTokens, temperature: 0, ignoreEos: true })
    .result()
    .then(
      ({ tokenIds }) => say({ id, tokenIds: [...tokenIds] }),
      (e: Error) => say({ id, error: e.message }),
    );
});
process.on('disconnect', () => void engine.close());
say({ id: -1 });
