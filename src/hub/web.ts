/** A model at an address of its own: no list of files, and no checksum to compare with. */
import path from 'node:path';
import { adopt, placeOf } from './cache-folder.js';
import { download, Refused } from './download.js';
import { request } from './http.js';
import type { Reference } from './reference.js';
import type { CachedModel, HubOptions } from './types.js';

/** @throws Error with why it cannot be had; LongmindError for what is wrong with the file */
export async function fetchFromWeb(
  ref: Reference & { kind: 'url' },
  folder: string,
  options: HubOptions,
): Promise<CachedModel> {
  const { url } = ref;
  const res = await request(url, { method: 'HEAD', signal: options.signal });
  res.body.destroy();
  // some servers answer GET only
  if (res.status >= 400 && res.status !== 405) throw new Refused(`${new URL(url).host} answered ${res.status}`);
  const length = Number(res.headers['content-length']);
  const bytes = res.status === 200 && Number.isSafeInteger(length) && length > 0 ? length : null;
  const file = placeOf(
    folder,
    ref,
    decodeURIComponent(path.posix.basename(new URL(url).pathname)).replace(/[/\\]/g, '_'),
  );
  const got = await download({ url, token: null, file, bytes, sha256: null }, options);
  const model = { ref: url, path: file, bytes: got.bytes, sha256: got.sha256 };
  adopt(got.part, model);
  return model;
}
