/** The three parts of device memory, and what is running. */

import { bytes, integer, short } from '../ui/format.js';
import { MemorySplit } from '../ui/MemorySplit.js';
import type { EngineAbout } from '../wire.js';

export function Memory({ about }: { about: EngineAbout }) {
  const { memory, dims, device } = about;
  return (
    <section class="card memory" aria-labelledby="memory-title">
      <header>
        <h2 id="memory-title">Memory</h2>
        <span class="note">{bytes(memory.freeBytes)} were free</span>
      </header>
      <MemorySplit about={about} />
      <p class="note">{memory.arithmetic}</p>
      <dl>
        <dt>Model</dt>
        <dd>
          {about.servedModelName}: {about.architecture}, {short(about.parameters)} parameters, {about.quantisation}
        </dd>
        <dt>Shape</dt>
        <dd>
          {dims.layers} layers × {dims.dim}, {dims.heads} heads, {dims.kvHeads} for KV, vocabulary {integer(dims.vocab)}
        </dd>
        <dt>KV</dt>
        <dd>
          {bytes(memory.bytesPerToken)} a token, {bytes(memory.blockBytes)} a block,{' '}
          {integer(memory.kvBlocks * memory.blockLen)} tokens in all
        </dd>
        <dt>Device</dt>
        <dd>
          {device.name}, {device.isa}, {device.threads} {device.threads === 1 ? 'thread' : 'threads'}; up to{' '}
          {integer(about.stepBudget)} tokens a step
        </dd>
        <dt>Longest session</dt>
        <dd>{integer(about.sessionLen)} tokens</dd>
      </dl>
    </section>
  );
}
