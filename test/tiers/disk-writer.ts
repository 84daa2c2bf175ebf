/** A process that writes slots until it is killed: slot s holds a text of one block whose first token says what the KV is. */
import { DiskTier } from '../../src/tiers/disk-tier.js';

const tier = DiskTier.open({
  dir: process.argv[2]!,
  bytes: 20 * 8192 + 65536,
  blockBytes: 5000,
  blockLen: 16,
  key: 'a'.repeat(64),
});
for (let n = 0; ; n++) {
  const seed = Math.floor(Math.random() * 1000);
  const kv = new Uint8Array(new SharedArrayBuffer(5000));
  for (let i = 0; i < kv.length; i++) kv[i] = (i * 31 + seed * 17) & 255;
  const prefix = Int32Array.from({ length: 16 }, (_, i) => seed + i);
  await new Promise((resolve) => tier.write(n % 15, -1, prefix, kv, resolve));
  if (n === 0) process.send!('ready');
}
