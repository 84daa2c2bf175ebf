/** The three parts of device memory and what is left, as a bar and in numbers. */
import type { EngineAbout } from '../wire.js';
import { bytes } from './format.js';

export function MemorySplit({ about: { memory } }: { about: EngineAbout }) {
  const used = memory.weightBytes + memory.kvBytes + memory.workspaceBytes;
  const rest = Math.max(0, memory.freeBytes - used);
  const parts = [
    { key: 'weights', label: 'weights', size: memory.weightBytes },
    { key: 'kv', label: 'KV cache', size: memory.kvBytes },
    { key: 'workspace', label: 'workspace', size: memory.workspaceBytes },
    { key: 'rest', label: 'left to others', size: rest },
  ];
  const whole = used + rest;
  return (
    <div class="memory">
      <div class="split" role="img" aria-label={parts.map((p) => `${p.label} ${bytes(p.size)}`).join(', ')}>
        {parts.map((p) => (
          <span key={p.key} class={p.key} style={{ flexGrow: p.size / whole }} />
        ))}
      </div>
      <ul class="parts">
        {parts.map((p) => (
          <li key={p.key}>
            <i class={`swatch ${p.key}`} /> {p.label} <b>{bytes(p.size)}</b>
          </li>
        ))}
      </ul>
    </div>
  );
}
