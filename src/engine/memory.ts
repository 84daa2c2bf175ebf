/** The memory split: weights, workspace, KV cache; and how cacheMaxEntryCount becomes a count of blocks. */
import type { Room } from '../base/memory-promises.js';
import type { CacheSize } from '../config.js';
import { type KvLayout, kvBlockBytes, kvBytesPerToken } from '../device/device.js';
import { errors, formatBytes } from '../errors.js';
import type { MemorySplit } from '../types.js';

interface MemoryInput {
  room: Room;
  weightBytes: number;
  workspaceBytes: number;
  kv: KvLayout;
  size: CacheSize;
}

/**
 * free − promised to others − weights − workspace = left; a share takes that part of what is left; a count of blocks and a
 * size are taken as they are, but must fit into what is left: Linux hands out memory that it does not have, so the refusal is
 * ours.
 */
export function splitMemory({ room, weightBytes, workspaceBytes, kv, size }: MemoryInput): MemorySplit {
  const { free: freeBytes, promised: promisedBytes } = room;
  const blockBytes = kvBlockBytes(kv);
  const available = freeBytes - promisedBytes;
  const left = available - weightBytes - workspaceBytes;
  if (left <= 0)
    throw errors.notEnoughMemory(
      `the model (weights ${formatBytes(weightBytes)}, workspace ${formatBytes(workspaceBytes)}, ` +
        `KV cache at least one block of ${formatBytes(blockBytes)})`,
      weightBytes + workspaceBytes + blockBytes,
      Math.max(0, available),
      promisedBytes,
    );
  const asked =
    size.kind === 'share'
      ? Math.floor(left * size.share)
      : size.kind === 'bytes'
        ? size.bytes
        : size.blocks * blockBytes;
  const kvBlocks = size.kind === 'blocks' ? size.blocks : Math.floor(asked / blockBytes);
  if (kvBlocks < 1) throw errors.notEnoughMemory('one KV block', blockBytes, asked, promisedBytes);
  const kvBytes = kvBlocks * blockBytes;
  if (kvBytes > left) throw errors.notEnoughMemory(`the KV cache of ${kvBlocks} blocks`, kvBytes, left, promisedBytes);
  return {
    freeBytes,
    promisedBytes,
    weightBytes,
    workspaceBytes,
    kvBytes,
    kvBlocks,
    blockBytes,
    blockLen: kv.blockLen,
    bytesPerToken: kvBytesPerToken(kv),
    arithmetic: arithmetic(left, size, kvBlocks, blockBytes, kv.blockLen, { room, weightBytes, workspaceBytes }),
  };
}

function arithmetic(
  left: number,
  size: CacheSize,
  blocks: number,
  blockBytes: number,
  blockLen: number,
  m: { room: Room; weightBytes: number; workspaceBytes: number },
): string {
  const f = formatBytes;
  const { free, promised } = m.room;
  const others = promised > 0 ? ` - ${f(promised)} promised to other longmind processes` : '';
  const rest = `${f(free)} free${others} - ${f(m.weightBytes)} weights - ${f(m.workspaceBytes)} workspace = ${f(left)} left`;
  const how =
    size.kind === 'share'
      ? `x ${size.share} = ${f(left * size.share)} / ${f(blockBytes)} a block`
      : size.kind === 'bytes'
        ? `of which ${f(size.bytes)} / ${f(blockBytes)} a block`
        : `of which ${f(blocks * blockBytes)} at ${f(blockBytes)} a block`;
  return `${rest}; ${how} = ${blocks} blocks of ${blockLen} tokens = ${blocks * blockLen} tokens`;
}
