/** The persistent batch: who is in it now and how far their KV has come, and who waits. */
import type { Picture, Sequence } from '../live/picture.js';
import { integer } from '../ui/format.js';
import { colourOf, labelOf } from '../ui/sessions.js';

const SHOWN = 16;

export function Batch({ picture }: { picture: Picture }) {
  const { batch, waiting } = picture;
  return (
    <section class="card batch" aria-labelledby="batch-title">
      <header>
        <h2 id="batch-title">Batch</h2>
        <span class="note">
          step {integer(picture.step)} · {picture.stats.lastStepMs.toFixed(1)} ms
        </span>
      </header>
      {batch.length + waiting.length === 0 && <p class="note">Empty: nobody is being answered.</p>}
      <ul>
        {[...batch]
          .sort((a, b) => a.slot - b.slot)
          .slice(0, SHOWN)
          .map((r) => (
            <li key={r.request} data-slot={r.slot}>
              <span class="slot">{r.slot}</span>
              <Name sequence={picture.sequences.get(r.sequence)} number={r.sequence} />
              <Progress
                known={r.known}
                computed={r.computed}
                colour={colourOf(r.sequence, picture.sequences.get(r.sequence)?.sessionId ?? null)}
              />
              <span class="doing">
                {r.generated > 0
                  ? `${integer(r.generated)} generated`
                  : `prefill ${integer(r.computed)}/${integer(r.known)}`}
              </span>
            </li>
          ))}
        {batch.length > SHOWN && <li class="more">and {batch.length - SHOWN} more in the batch</li>}
        {waiting.slice(0, SHOWN / 2).map((w) => (
          <li key={w.request} class="waiting">
            <span class="slot">…</span>
            <Name sequence={picture.sequences.get(w.sequence)} number={w.sequence} />
            <span class="doing">waiting, {integer(w.known)} tokens</span>
          </li>
        ))}
        {waiting.length > SHOWN / 2 && <li class="more">and {integer(waiting.length - SHOWN / 2)} more waiting</li>}
      </ul>
    </section>
  );
}

function Name({ sequence, number }: { sequence: Sequence | undefined; number: number }) {
  const label = sequence ? labelOf(sequence) : `sequence ${number}`;
  return (
    <span class="name" title={label}>
      <i class="swatch" style={{ background: colourOf(number, sequence?.sessionId ?? null) }} />
      {label}
    </span>
  );
}

function Progress({ known, computed, colour }: { known: number; computed: number; colour: string }) {
  const share = known === 0 ? 0 : (100 * computed) / known;
  return (
    <span class="bar" title={`${computed} of ${known} tokens have their KV`}>
      <span style={{ width: `${share}%`, background: colour }} />
    </span>
  );
}
