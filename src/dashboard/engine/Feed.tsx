/** What happened, newest first. */
import { live } from '../live/connection.js';
import { type Happening, type Kind, wordsOf } from '../live/happenings.js';
import { clock, integer } from '../ui/format.js';
import { colourOf, labelOf } from '../ui/sessions.js';
import { useStore } from '../ui/store.js';

const WORDS: Record<Kind, string> = {
  hit: 'hit',
  partial: 'partial',
  miss: 'miss',
  evict: 'evicted',
  recompute: 'recompute',
  preempt: 'preempted',
  fork: 'fork',
  drop: 'dropped',
  fail: 'failed',
};
const NAMED = 4;

export function Feed() {
  const { happenings } = useStore(live);
  return (
    <section class="card feed" aria-labelledby="feed-title">
      <header>
        <h2 id="feed-title">What happens</h2>
        <span class="note">from the engine's counters, a quarter second apart</span>
      </header>
      {happenings.length === 0 ? (
        <p class="note">Nothing yet. Hits, misses, evictions and recomputes appear here.</p>
      ) : (
        <ol aria-label="Happenings, newest first">
          {happenings.slice(0, 80).map((h) => (
            <li key={h.id} data-kind={h.kind}>
              <time>{clock(h.at)}</time>
              <b class={`kind ${h.kind}`}>{WORDS[h.kind]}</b>
              <span class="text">
                {wordsOf(h)}
                <Who happening={h} />
              </span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function Who({ happening: { who } }: { happening: Happening }) {
  if (who.length === 0) return null;
  return (
    <span class="who">
      {who.slice(0, NAMED).map((w) => (
        <span key={w.number}>
          <i class="swatch" style={{ background: colourOf(w.number, w.sessionId) }} />
          {labelOf(w)} {w.tokens < 0 ? `−${integer(-w.tokens)}` : integer(w.tokens)} tokens
        </span>
      ))}
      {who.length > NAMED && <span>and {who.length - NAMED} more</span>}
    </span>
  );
}
