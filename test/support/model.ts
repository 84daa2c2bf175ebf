/** The default model for tests: fetched once into the project's cache folder, as any user would. */

import { LongmindError } from '../../src/errors.js';
import { DEFAULT_MODEL, resolveModel } from '../../src/hub/index.js';

let found: Promise<{ path: string | null; reason: string }> | null = null;

function find(): Promise<{ path: string | null; reason: string }> {
  found ??= resolveModel(DEFAULT_MODEL).then(
    ({ path }) => ({ path, reason: '' }),
    (e: unknown) => {
      if (e instanceof LongmindError) return { path: null, reason: e.message };
      throw e;
    },
  );
  return found;
}

/** Path of SmolLM2-135M-Instruct, or null where it cannot be had; the reason is printed. */
export async function smollmPath(): Promise<string | null> {
  const { path, reason } = await find();
  if (path === null) console.error(`SKIPPED, the default model cannot be had here: ${reason}`);
  return path;
}
