/** How an engine describes itself on the terminal. */
import { type EngineInfo, type ExpertFlags, formatBytes, type MemorySplit, type ModelInspection } from '../index.js';
import { table } from './terminal.js';

function parameterCount(n: number): string {
  return n >= 1e9 ? `${(n / 1e9).toFixed(2)} B` : n >= 1e5 ? `${(n / 1e6).toFixed(1)} M` : `${n}`;
}

/** The three parts of memory; `verbose`: with the arithmetic behind the KV cache. */
function memoryLines(m: MemorySplit, verbose: boolean): string {
  const sequences = Math.floor((m.kvBlocks * m.blockLen) / 1024);
  const { gpus = 1 } = m;
  const share = (bytes: number) => (gpus > 1 ? `${formatBytes(bytes / gpus)} on each of ${gpus} GPUs` : '');
  return `${table([
    ['memory', formatBytes(m.freeBytes), [share(m.freeBytes), 'free before loading'].filter(Boolean).join(', ')],
    ...(m.promisedBytes > 0 ? [['  promised', formatBytes(m.promisedBytes), 'to other longmind processes']] : []),
    ['  weights', formatBytes(m.weightBytes), share(m.weightBytes)],
    ['  workspace', formatBytes(m.workspaceBytes), share(m.workspaceBytes)],
    [
      '  KV cache',
      formatBytes(m.kvBytes),
      `${gpus > 1 ? `${share(m.kvBytes)}; ` : ''}${m.kvBlocks} blocks of ${m.blockLen} tokens, ${formatBytes(m.bytesPerToken)} a token: ` +
        `${m.kvBlocks * m.blockLen} tokens${sequences >= 2 ? `, ${sequences} conversations of 1024` : ''}`,
    ],
  ])}${verbose ? `\n\n${m.arithmetic}` : ''}`;
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

function draftLines({ draftModel }: Pick<EngineInfo, 'draftModel'>): string {
  if (!draftModel) return '';
  const { modelName, parameters, memory: m } = draftModel;
  const room = `KV cache ${formatBytes(m.kvBytes)}: ${m.kvBlocks * m.blockLen} tokens`;
  const rest = `weights ${formatBytes(m.weightBytes)}, workspace ${formatBytes(m.workspaceBytes)}`;
  return `\ndraft model ${modelName}: ${parameterCount(parameters)} parameters; ${rest}, ${room}`;
}

function deviceRows({ name, isa, threads, library }: EngineInfo['device'], verbose: boolean): string[][] {
  const units = isa.startsWith('sm_') ? 'multiprocessors' : 'threads';
  const rows = [['device', `${name} (${isa}), ${threads} ${units}`]];
  return library && verbose ? [...rows, ['library', library]] : rows;
}

function adapterLines({ adapters = [] }: Pick<EngineInfo, 'adapters'>): string {
  return adapters
    .map((a) => `\nadapter ${a.name}: rank ${a.rank}, ${formatBytes(a.bytes)} of the weights, ${a.path}`)
    .join('');
}

export function engineLines(info: EngineInfo, verbose: boolean): string {
  const { dims: d, device } = info;
  return `${table([
    [
      'model',
      `${info.modelName}: ${info.architecture}, ${parameterCount(info.parameters)} parameters, ${info.quantisation}`,
    ],
    ['', `${d.layers} layers of ${d.dim}, ${d.heads} heads (${d.kvHeads} KV), vocabulary ${d.vocab}`],
    ...deviceRows(device, verbose),
    ['length', `sessions of up to ${info.sessionLen} tokens`],
  ])}\n${memoryLines(info.memory, verbose)}${tierLines(info)}${draftLines(info)}${adapterLines(info)}`;
}

function expertsLine({ count, used, width, sharedWidth, denseLayers }: ExpertFlags): string {
  const shared = sharedWidth > 0 ? `, and one of ${sharedWidth} for every token` : '';
  const without = denseLayers.length > 0 ? `; ${denseLayers.length} layers have none` : '';
  return `${count} of ${width} a layer, ${used} for each token${shared}${without}`;
}

/** What a model is and needs: its shape, its tensors by type, memory. */
export function inspectionLines(m: ModelInspection, verbose: boolean): string {
  const { dims: d, quantisation: q } = m;
  const heads = `${d.heads} heads (${d.kvHeads} KV) of ${d.headDim}`;
  const types = Object.entries(q.byType).map(([type, t]) => [
    ...['', type, String(t.tensors), parameterCount(t.parameters)],
    formatBytes(t.bytes),
  ]);
  return [
    table([
      ['model', `${m.name}: ${m.architecture}, ${parameterCount(m.parameters)} parameters, ${q.name}`],
      ['file', m.path],
      ['shape', `${d.layers} layers of ${d.dim}, ${heads}, feed-forward ${d.ffDim}, vocabulary ${d.vocab}`],
      ...(m.experts ? [['experts', expertsLine(m.experts)]] : []),
      ['length', `${m.contextLength} tokens of context, sessions of up to ${m.sessionLen}`],
      ['KV', `${formatBytes(m.kvBytesPerToken)} a token`],
      ...deviceRows(m.device, true),
    ]),
    table([['tensors', 'type', 'count', 'parameters', 'in the file'], ...types]),
    memoryLines(m.memory, verbose) + draftLines(m) + adapterLines(m),
  ].join('\n\n');
}
