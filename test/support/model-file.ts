/** A real model as program and weights: the bundled one, else the default one; null where neither can be had. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { HitMissModel } from '../../src/bench/hit-miss.js';
import { llama } from '../../src/model/llama.js';
import { readGguf, readModelConfig } from '../../src/weights/index.js';
import { smollmPath } from './model.js';

/** The project's root, seen from dist/test/support. */
export const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../../..');

export function bundledModelPath(): string | null {
  try {
    const folder = path.join(root, 'models/memo');
    const file = readdirSync(folder).find((f) => f.endsWith('.gguf'));
    return file ? path.join(folder, file) : null;
  } catch {
    return null;
  }
}

export function openFile(file: string): HitMissModel {
  const { dims, rmsEps, rope, tiedOutput, flags, tensors } = readModelConfig(readGguf(file));
  return { program: llama({ ...dims, rmsEps, rope, tiedOutput, flags }), weights: { path: file, tensors } };
}

export async function openModelFile(): Promise<HitMissModel | null> {
  const file = bundledModelPath() ?? (await smollmPath());
  return file ? openFile(file) : null;
}
