/** Whose blocks go next: the eviction order, put together where neighbours belong to one session. */
import type { Picture } from '../live/picture.js';
import { integer } from '../ui/format.js';
import { colourOf, labelOf } from '../ui/sessions.js';

const SHOWN = 14;

interface Run {
  holder: number;
  blocks: number;
}

function runsOf(picture: Picture): Run[] {
  const runs: Run[] = [];
  for (const block of picture.order) {
    const holder = picture.holder[block] ?? -1;
    const last = runs.at(-1);
    if (last?.holder === holder) last.blocks++;
    else runs.push({ holder, blocks: 1 });
  }
  return runs;
}

export function Order({ picture }: { picture: Picture }) {
  const runs = runsOf(picture);
  return (
    <section class="card order" aria-labelledby="order-title">
      <header>
        <h2 id="order-title">Next to be evicted</h2>
        <span class="note">least recently used first, tail first</span>
      </header>
      {runs.length === 0 ? (
        <p class="note">Nothing is cached that nobody uses.</p>
      ) : (
        <ol class="runs">
          {runs.slice(0, SHOWN).map((r, i) => {
            const q = picture.sequences.get(r.holder);
            const label = r.holder < 0 ? 'no session' : q ? labelOf(q) : `sequence ${r.holder}`;
            const background = r.holder < 0 ? 'var(--map-nobody)' : colourOf(r.holder, q?.sessionId ?? null);
            return (
              <li key={`${i}-${r.holder}`} title={`${label}: ${integer(r.blocks)} blocks`}>
                <i class="swatch" style={{ background }} />
                <span class="name">{label}</span>
                <span class="count">{integer(r.blocks)}</span>
              </li>
            );
          })}
          {runs.length > SHOWN && <li class="more">and {runs.length - SHOWN} more</li>}
        </ol>
      )}
    </section>
  );
}
