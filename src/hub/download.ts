/** Fetches one file by ranges: a cut connection is taken up where it broke, in this run or the next one. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeFolder } from '../base/folders.js';
import { errors, formatBytes, LongmindError } from '../errors.js';
import { type HttpResponse, messageOf, request } from './http.js';
import type { HubOptions } from './types.js';

/** Attempts in a row that bring nothing. */
const ATTEMPTS = 4;
const FIRST_PAUSE = 300;

interface Download {
  url: string;
  token: string | null;
  /** Complete when it is there; FILE.part until then. */
  file: string;
  /** Bytes; null if the server did not say. */
  bytes: number | null;
  /** null if the server did not say. */
  sha256: string | null;
}

/** Fetches to FILE.part and checks it. The caller moves it. @throws LongmindError checksum_mismatch, io_error; Error */
export async function download(
  d: Download,
  options: HubOptions,
): Promise<{ part: string; bytes: number; sha256: string }> {
  const part = `${d.file}.part`;
  makeFolder(path.dirname(part));
  let present = await usablePart(d, part);
  await options.onPlan?.({ file: path.basename(d.file), bytes: d.bytes ?? 0, present });
  await checkSpace(part, (d.bytes ?? 0) - present);
  await writeFile(`${part}.json`, JSON.stringify({ bytes: d.bytes, sha256: d.sha256 }));
  const hash = createHash('sha256');
  if (present > 0) await hashFile(part, hash);
  const state: State = { received: present, hash };
  for (let failures = 0; ; ) {
    try {
      await fetchRest(d, part, state, options);
      break;
    } catch (e) {
      if (options.signal?.aborted || e instanceof LongmindError || e instanceof Refused) throw e;
      failures = state.received > present ? 1 : failures + 1;
      present = state.received;
      if (failures >= ATTEMPTS) throw e;
      options.onNote?.(`${path.basename(d.file)}: ${messageOf(e)}; trying again`);
      await sleep(FIRST_PAUSE * 2 ** failures, undefined, { signal: options.signal });
    }
  }
  return { part, bytes: state.received, sha256: await check(d, part, state) };
}

/** An answer that another attempt would get again. */
export class Refused extends Error {}

interface State {
  received: number;
  /** Of all that was received. */
  hash: Hash;
}

async function check(d: Download, part: string, state: State): Promise<string> {
  const sha256 = state.hash.digest('hex');
  if (d.sha256 === null || d.sha256 === sha256) return sha256;
  await discard(part);
  throw errors.checksum(path.basename(d.file), d.sha256, sha256);
}

async function discard(part: string): Promise<void> {
  await rm(part, { force: true });
  await rm(`${part}.json`, { force: true });
}

/** Bytes of an earlier attempt at the same file; one at another version is thrown away. */
async function usablePart(d: Download, part: string): Promise<number> {
  try {
    const was = JSON.parse(await readFile(`${part}.json`, 'utf8')) as Partial<Download>;
    const { size } = await stat(part);
    const same = d.sha256 !== null && was.sha256 === d.sha256 && was.bytes === d.bytes;
    if (same && (d.bytes === null || size <= d.bytes)) return size;
  } catch {
    // there is none
  }
  await discard(part);
  return 0;
}

async function checkSpace(part: string, need: number): Promise<void> {
  const { bavail, bsize } = await statfs(path.dirname(part));
  if (need > bavail * bsize)
    throw errors.io(
      `fetching to '${path.dirname(part)}'`,
      `it needs ${formatBytes(need)}, ${formatBytes(bavail * bsize)} are free`,
    );
}

async function hashFile(file: string, hash: Hash): Promise<void> {
  for await (const bytes of createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(bytes as Buffer);
}

async function fetchRest(d: Download, part: string, state: State, options: HubOptions): Promise<void> {
  if (d.bytes !== null && state.received === d.bytes) return;
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (state.received > 0) headers.range = `bytes=${state.received}-`;
  const res = await request(d.url, { headers, token: d.token, signal: options.signal });
  if (res.status === 200) {
    // from the beginning, whatever was asked for
    state.received = 0;
    state.hash = createHash('sha256');
  } else if (res.status !== 206) {
    res.body.destroy();
    const refusal = `${new URL(d.url).host} answered ${res.status}`;
    throw res.status >= 500 || res.status === 429 ? new Error(refusal) : new Refused(refusal);
  }
  const file = await open(part, state.received > 0 ? 'r+' : 'w');
  try {
    await receive(d, res, file, state, options);
  } finally {
    await file.close();
  }
}

type FileHandle = Awaited<ReturnType<typeof open>>;

async function receive(
  d: Download,
  res: HttpResponse,
  file: FileHandle,
  state: State,
  options: HubOptions,
): Promise<void> {
  const length = Number(res.headers['content-length']);
  const total = d.bytes ?? (Number.isSafeInteger(length) ? state.received + length : 0);
  for await (const bytes of res.body as AsyncIterable<Buffer>) {
    if (d.bytes !== null && state.received + bytes.length > d.bytes)
      throw new Refused(`the file is longer than the ${d.bytes} bytes it should have`);
    await file.write(bytes, 0, bytes.length, state.received);
    state.hash.update(bytes);
    state.received += bytes.length;
    options.onProgress?.({ file: path.basename(d.file), received: state.received, total });
  }
  if (!res.body.complete || (total > 0 && state.received < total))
    throw new Error(`the connection broke after ${state.received} of ${total} bytes`);
}
