/** What each hub test starts with: a fake hub, an empty cache folder, options that see nothing of this machine. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import type { HubOptions } from '../../src/hub/index.js';
import { type FakeHub, startHub } from './fake-hub.js';

export const root = mkdtempSync(path.join(os.tmpdir(), 'longmind-hub-'));
after(() => rmSync(root, { recursive: true }));
export const model = randomBytes(300_000);
export const other = randomBytes(5000);

export interface World {
  hub: FakeHub;
  cacheDir: string;
  options: HubOptions & { env: NodeJS.ProcessEnv };
  notes: string[];
}

export async function createWorld(): Promise<World> {
  const cacheDir = mkdtempSync(path.join(root, 'cache-'));
  const hub = await startHub({
    'README.md': { bytes: Buffer.from('hi'), plain: true },
    'm-Q8_0.gguf': { bytes: model },
    'm-Q4_0.gguf': { bytes: other },
    'sub/m.q6_k.gguf': { bytes: other },
    'mmproj-m-Q8_0.gguf': { bytes: other },
    'big-F16-00001-of-00002.gguf': { bytes: other },
    'big-F16-00002-of-00002.gguf': { bytes: other },
  });
  const notes: string[] = [];
  const env = { PATH: root, HOME: root, HF_HOME: path.join(cacheDir, 'hf-home'), HF_ENDPOINT: hub.endpoint };
  return { hub, cacheDir, notes, options: { cacheDir, env, onNote: (note) => notes.push(note) } };
}

export async function fails(promise: Promise<unknown>, code: string, message?: RegExp): Promise<void> {
  await assert.rejects(promise, (e) => {
    if (!(e instanceof LongmindError)) throw e;
    assert.equal(e.code, code, e.message);
    if (message) assert.match(e.message, message);
    return true;
  });
}

/** Unfinished files and locks in a cache folder. */
export const partsLeft = (cacheDir: string): string[] =>
  (readdirSync(cacheDir, { recursive: true }) as string[]).filter((n) => /\.part|\.locks\/./.test(n));
