/** API keys: who a caller is, found in constant time. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { errors } from '../index.js';
import { serverErrors } from './errors.js';

export class Keys {
  readonly #digests: { digest: Buffer; owner: number }[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map((key) => {
      const digest = sha256(key);
      return { digest, owner: ownerOf(digest) };
    });
    if (new Set(this.#digests.map((d) => d.owner)).size < keys.length) throw serverErrors.keyCollision();
  }

  get required(): boolean {
    return this.#digests.length > 0;
  }

  /**
   * Owner of the key in an Authorization header, or in x-api-key as Anthropic's clients send it (0 when no keys are set);
   * throws 401. Every key is compared every time.
   */
  owner({ authorization, 'x-api-key': plain }: IncomingHttpHeaders): number {
    if (!this.required) return 0;
    const bearer = /^Bearer\s+(\S+)\s*$/i.exec(authorization ?? '')?.[1];
    const given = sha256(bearer ?? (typeof plain === 'string' ? plain.trim() : ''));
    let owner = 0;
    for (const d of this.#digests) {
      if (timingSafeEqual(d.digest, given)) owner = d.owner;
    }
    if (owner === 0) throw errors.unauthorized();
    return owner;
  }
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/** From the key itself, not from its place in the list: kept sessions must not change hands when a key is removed. */
const ownerOf = (digest: Buffer): number => (digest.readUInt32LE(0) & 0x3fffffff) + 1;

/** Addresses that only this machine can reach. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, '');
  return name === 'localhost' || name === '::1' || name.endsWith('.localhost') || /^127(\.\d{1,3}){3}$/.test(name);
}

/** 'localhost:23333' → 'localhost'; '[::1]:80' → '::1'. */
export function hostName(header: string | undefined): string {
  const h = header ?? '';
  return h.startsWith('[') ? h.slice(1, h.indexOf(']')) : h.replace(/:\d*$/, '');
}
