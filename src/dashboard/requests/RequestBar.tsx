/** Parts of a whole as a bar that is read out, too. */
import type { Part } from './request.js';

export function RequestBar({ parts, unit }: { parts: Part[]; unit: string }) {
  const whole = parts.reduce((n, p) => n + p.size, 0);
  const words = parts.map((p) => `${p.key} ${Math.round(p.size)}`).join(', ');
  return (
    <span class="parts-bar" role="img" aria-label={`${words} ${unit}`}>
      {whole > 0 &&
        parts
          .filter((p) => p.size > 0)
          .map((p) => (
            <span
              key={p.key}
              class={`part-${p.key}`}
              style={{ flexGrow: p.size / whole }}
              title={`${p.key} ${Math.round(p.size)} ${unit}`}
            />
          ))}
    </span>
  );
}
