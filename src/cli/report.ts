/** How an engine describes itself on the terminal. */
import { type EngineInfo, formatBytes, type MemorySplit } from '../index.js';
import { type Terminal, table } from './terminal.js';

export function parameterCount(n: number): string {
  return n >= 1e9 ? `${(n / 1e9).toFixed(2)} B` : `${(n / 1e6).toFixed(1)} M`;
}

/** The three parts of memory with the arithmetic behind the KV cache. */
export function memoryLines(m: MemorySplit): string {
  const sequences = Math.floor((m.kvBlocks * m.blockLen) / 1024);
  return `${table([
    ['memory', formatBytes(m.freeBytes), 'free before loading'],
    ['  weights', formatBytes(m.weightBytes), ''],
    ['  workspace', formatBytes(m.workspaceBytes), ''],
    [
      '  KV cache',
      formatBytes(m.kvBytes),
      `${m.kvBlocks} blocks of ${m.blockLen} tokens, ${formatBytes(m.bytesPerToken)} a token: ` +
        `${m.kvBlocks * m.blockLen} tokens${sequences >= 2 ? `, ${sequences} conversations of 1024` : ''}`,
    ],
  ])}\n            ${m.arithmetic}`;
}

/** Where KV goes that has to leave the device. */
function tierLines({ tiers, memory }: EngineInfo): string {
  if (!tiers) return '';
  const { hostBlocks, disk } = tiers;
  const room = (blocks: number) =>
    `${formatBytes(blocks * memory.blockBytes)}, ${blocks} blocks: ${blocks * memory.blockLen} tokens`;
  const lines = [];
  if (hostBlocks > 0) lines.push(`host cache  ${room(hostBlocks)}`);
  if (disk) lines.push(`disk cache  ${room(disk.blocks)} in ${disk.dir}, ${disk.found} blocks found there`);
  return `\n${lines.join('\n')}`;
}

export function engineLines(info: EngineInfo): string {
  const { dims: d, device } = info;
  return `${table([
    [
      'model',
      `${info.modelName}: ${info.architecture}, ${parameterCount(info.parameters)} parameters, ${info.quantisation}`,
    ],
    ['', `${d.layers} layers of ${d.dim}, ${d.heads} heads (${d.kvHeads} KV), vocabulary ${d.vocab}`],
    ['device', `${device.name} (${device.isa}), ${device.threads} threads`],
    ['length', `sessions of up to ${info.sessionLen} tokens`],
  ])}\n${memoryLines(info.memory)}${tierLines(info)}`;
}

export function noteEngine(terminal: Terminal, info: EngineInfo): void {
  terminal.note(engineLines(info));
}
