/** What was asked of the server of late: times, and where the KV of each prompt came from. */
import { useState } from 'preact/hooks';
import { chats } from '../chat/chats.js';
import { clock, integer, ms } from '../ui/format.js';
import { usePolled } from '../ui/poll.js';
import { labelOf, sessionColour } from '../ui/sessions.js';
import { useStore } from '../ui/store.js';
import { RequestBar } from './RequestBar.js';
import { type Part, type Request, timesOf, tokensOf } from './request.js';

const EVERY_MS = 2_000;

export function RequestsView() {
  useStore(chats);
  const { value, problem } = usePolled<{ data: Request[] }>('/v1/requests', EVERY_MS);
  const [open, setOpen] = useState<string | null>(null);
  const [words, setWords] = useState('');
  const all = value?.data ?? [];
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = all.filter((r) => parts.every((p) => textOf(r).includes(p)));
  return (
    <section class="list-view requests" aria-labelledby="requests-title">
      <header>
        <h2 id="requests-title">Requests</h2>
        <p class="note">The last 200 of this key, newest first. Nothing of what was said is kept.</p>
        <input
          type="search"
          class="search"
          placeholder="Search by session, route or state"
          aria-label="Search the requests"
          value={words}
          onInput={(e) => setWords(e.currentTarget.value)}
        />
      </header>
      <ul class="legend" aria-label="Colours of the bars">
        {['cached', 'restored', 'recomputed', 'computed', 'generated'].map((key) => (
          <li key={key}>
            <i class={`swatch part-${key}`} /> {key}
          </li>
        ))}
      </ul>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <p class="note" role="status">
        {value && all.length === 0 && 'Nothing was asked for yet.'}
        {all.length > 0 && shown.length === 0 && 'No request holds this.'}
      </p>
      <ul class="rows">
        {shown.map((r) => (
          <li key={r.id}>
            <Row request={r} open={open === r.id} onToggle={() => setOpen(open === r.id ? null : r.id)} />
          </li>
        ))}
      </ul>
    </section>
  );
}

const sessionName = (id: string): string => labelOf({ number: -1, sessionId: id, ours: true });

const textOf = (r: Request): string =>
  [r.id, r.route, r.state, r.error ?? '', r.session_id ?? '', r.session_id ? sessionName(r.session_id) : '']
    .join(' ')
    .toLowerCase();

function Row({ request: r, open, onToggle }: { request: Request; open: boolean; onToggle: () => void }) {
  const name = r.session_id ? sessionName(r.session_id) : 'no session';
  return (
    <div class={`item ${open ? 'open' : ''}`}>
      <button type="button" class="line" aria-expanded={open} onClick={onToggle}>
        <i class="swatch" style={{ background: r.session_id ? sessionColour(r.session_id) : 'var(--map-nobody)' }} />
        <span class="cut name">{name}</span>
        <span class={`state ${r.state}`}>{r.error ?? (r.choices[0]?.finish_reason || r.state)}</span>
        <span class="count">{ms(r.duration_ms)}</span>
        <time dateTime={new Date(r.created * 1000).toISOString()}>{clock(r.created * 1000)}</time>
        {r.choices.length > 0 && <RequestBar parts={tokensOf(r)} unit="tokens" />}
      </button>
      {open && <Details request={r} />}
    </div>
  );
}

function Details({ request: r }: { request: Request }) {
  return (
    <div class="details">
      <dl>
        <dt>Request</dt>
        <dd>
          <code>{r.id}</code>
        </dd>
        <dt>Route</dt>
        <dd>
          <code>{r.route}</code> as {r.model}
          {r.stream ? ', streamed' : ''}
        </dd>
        {r.session_id && (
          <>
            <dt>Session</dt>
            <dd>
              <code>{r.session_id}</code>
            </dd>
          </>
        )}
      </dl>
      {r.choices.map((c) => (
        <section key={c.index} aria-label={`Choice ${c.index + 1}`}>
          {r.choices.length > 1 && <h3>Choice {c.index + 1}</h3>}
          <Named title="Tokens" parts={tokensOf({ choices: [c] })} unit="tokens" show={integer} />
          <Named title="Time" parts={timesOf(c)} unit="ms" show={ms} />
          <p class="note">{extraOf(c)}</p>
        </section>
      ))}
      {r.state === 'running' && <p class="note">It runs: its numbers come when it has ended.</p>}
    </div>
  );
}

function Named({
  title,
  parts,
  unit,
  show,
}: {
  title: string;
  parts: Part[];
  unit: string;
  show: (n: number) => string;
}) {
  return (
    <>
      <h3>{title}</h3>
      <RequestBar parts={parts} unit={unit} />
      <ul class="numbers">
        {parts.map((p) => (
          <li key={p.key} data-part={p.key}>
            <i class={`swatch part-${p.key}`} /> {p.key} <b>{show(p.size)}</b>
          </li>
        ))}
      </ul>
    </>
  );
}

function extraOf(c: Request['choices'][number]): string {
  const speed = c.completion_tokens > 1 ? (c.completion_tokens - 1) / ((c.total_ms - c.first_token_ms) / 1000) : 0;
  return [
    `${integer(c.prompt_tokens)} in, ${integer(c.completion_tokens)} out`,
    `first token after ${ms(c.first_token_ms)}`,
    ...(Number.isFinite(speed) && speed > 0 ? [`${speed.toFixed(1)} tokens a second`] : []),
    ...(c.accepted_prediction_tokens > 0 ? [`${integer(c.accepted_prediction_tokens)} guessed rightly`] : []),
  ].join(' · ');
}
