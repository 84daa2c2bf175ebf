/** The memory split: weights, workspace, KV cache; and how cacheMaxEntryCount becomes a count of blocks. */
import type { CacheSize } from '../config.js';
import { type KvLayout, kvBlockBytes, kvBytesPerToken } from '../device/device.js';
import { errors, formatBytes } from '../errors.js';
import type { MemorySplit } from '../types.js';

interface MemoryInput {
  freeBytes: number;
  weightBytes: number;
  workspaceBytes: number;
  kv: KvLayout;
  size: CacheSize;
}

/**
 * free − weights − workspace = left; a share takes that part of what is left; a count of blocks and a size are taken as
 * they are, but must fit into what is left: Linux hands out memory that it does not have, so the refusal is ours.
 */
export function splitMemory({ freeBytes, weightBytes, workspaceBytes, kv, size }: MemoryInput): MemorySplit {
  const blockBytes = kvBlockBytes(kv);
  const left = freeBytes - weightBytes - workspaceBytes;
  if (left <= 0)
    throw errors.notEnoughMemory(
      `the model (weights ${formatBytes(weightBytes)}, workspace ${formatBytes(workspaceBytes)}, ` +
        `KV cache at least one block of ${formatBytes(blockBytes)})`,
      weightBytes + workspaceBytes + blockBytes,
      freeBytes,
    );
  const asked =
    size.kind === 'share'
      ? Math.floor(left * size.share)
      : size.kind === 'bytes'
        ? size.bytes
        : size.blocks * blockBytes;
  const kvBlocks = size.kind === 'blocks' ? size.blocks : Math.floor(asked / blockBytes);
  if (kvBlocks < 1) throw errors.notEnoughMemory('one KV block', blockBytes, asked);
  const kvBytes = kvBlocks * blockBytes;
  if (kvBytes > left) throw errors.notEnoughMemory(`the KV cache of ${kvBlocks} blocks`, kvBytes, left);
  return {
    freeBytes,
    weightBytes,
    workspaceBytes,
    kvBytes,
    kvBlocks,
    blockBytes,
    blockLen: kv.blockLen,
    bytesPerToken: kvBytesPerToken(kv),
    arithmetic: arithmetic(left, size, kvBlocks, blockBytes, kv.blockLen, { freeBytes, weightBytes, workspaceBytes }),
  };
}

function arithmetic(
  left: number,
  size: CacheSize,
  blocks: number,
  blockBytes: number,
  blockLen: number,
  m: { freeBytes: number; weightBytes: number; workspaceBytes: number },
): string {
  const f = formatBytes;
  const rest = `${f(m.freeBytes)} free - ${f(m.weightBytes)} weights - ${f(m.workspaceBytes)} workspace = ${f(left)} left`;
  const how =
    size.kind === 'share'
      ? `x ${size.share} = ${f(left * size.share)} / ${f(blockBytes)} a block`
      : size.kind === 'bytes'
        ? `of which ${f(size.bytes)} / ${f(blockBytes)} a block`
        : `of which ${f(blocks * blockBytes)} at ${f(blockBytes)} a block`;
  return `${rest}; ${how} = ${blocks} blocks of ${blockLen} tokens = ${blocks * blockLen} tokens`;
}
