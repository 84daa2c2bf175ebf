/** One session: a line, and when it is open what was said in it and what can be done with it. */
import { useEffect, useState } from 'preact/hooks';
import { resumeSession } from '../chat/chats.js';
import type { Said } from '../chat/model.js';
import { Saying } from '../chat/Saying.js';
import { call, getJson } from '../ui/api.js';
import { ago, integer, percent } from '../ui/format.js';
import { Icon } from '../ui/Icon.js';
import { labelOf, sessionColour } from '../ui/sessions.js';
import { showView } from '../ui/view.js';
import type { Session } from './forest.js';
import { transcript } from './transcript.js';

interface Props {
  session: Session;
  open: boolean;
  onToggle: () => void;
  onChanged: () => void;
}

export function SessionRow({ session: s, open, onToggle, onChanged }: Props) {
  const label = labelOf({ number: -1, sessionId: s.id, ours: true });
  const share = s.tokens === 0 ? 0 : s.cached_tokens / s.tokens;
  return (
    <div class={`item ${open ? 'open' : ''}`}>
      <button type="button" class="line" aria-expanded={open} onClick={onToggle}>
        <i class="swatch" style={{ background: sessionColour(s.id) }} />
        <span class="cut name">
          {label}
          {label !== s.id && <small> {s.id}</small>}
        </span>
        <span class={`kept ${s.state}`} title={`${s.cached_tokens} of ${s.tokens} tokens have their KV in the cache`}>
          <span class="bar">
            <span style={{ width: `${share * 100}%`, background: sessionColour(s.id) }} />
          </span>
          {s.state}
        </span>
        <span class="count">{integer(s.tokens)} tokens</span>
        <time dateTime={new Date(s.last_used * 1000).toISOString()}>{ago(s.last_used * 1000)}</time>
      </button>
      {open && <Details session={s} onChanged={onChanged} />}
    </div>
  );
}

type Loaded = { said: Said[] | null; problem: string | null };

function Details({ session: s, onChanged }: Pick<Props, 'session' | 'onChanged'>) {
  const [{ said, problem }, setLoaded] = useState<Loaded>({ said: null, problem: null });
  const [sure, setSure] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    read(s.id, stop.signal).then(
      (said) => setLoaded({ said, problem: null }),
      (e: Error) => stop.signal.aborted || setLoaded({ said: null, problem: e.message }),
    );
    return () => stop.abort();
    // what it holds is new when its length is
  }, [s.id, s.tokens]);
  const go = (id: string, before: Said[]) => {
    resumeSession(id, s.tokens, before);
    showView('chat');
  };
  const act = (what: () => Promise<void>) => () =>
    what().catch((e: Error) => setLoaded((l) => ({ ...l, problem: e.message })));
  const fork = act(async () => {
    const id = `${s.id.slice(0, 240)}.fork-${Date.now().toString(36)}`;
    await call(`/v1/sessions/${encodeURIComponent(s.id)}/fork`, { body: { id } });
    onChanged();
    go(id, said ?? []);
  });
  const remove = act(async () => {
    await call(`/v1/sessions/${encodeURIComponent(s.id)}`, { method: 'DELETE' });
    onChanged();
  });
  const ready = said !== null && s.state !== 'active';
  return (
    <div class="details">
      <dl>
        <dt>Session</dt>
        <dd>
          <code>{s.id}</code>
        </dd>
        <dt>In the cache</dt>
        <dd>
          {integer(s.cached_tokens)} of {integer(s.tokens)} tokens ({percent(s.cached_tokens, s.tokens)})
        </dd>
        {s.forked_from && (
          <>
            <dt>Forked from</dt>
            <dd>
              <code>{s.forked_from.id}</code> after {integer(s.forked_from.tokens)} tokens
            </dd>
          </>
        )}
      </dl>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <div class="said">
        {said?.map((m, i) => (
          <Saying key={`${i} ${m.role}`} said={m} />
        ))}
        {said?.length === 0 && <p class="note">Nothing was said in it yet.</p>}
      </div>
      <p class="actions">
        <button type="button" class="primary" disabled={!ready} onClick={() => go(s.id, said ?? [])}>
          Go on with it
        </button>
        <button
          type="button"
          disabled={!ready}
          title="A copy with the same beginning: their KV is shared"
          onClick={fork}
        >
          <Icon name="fork" /> Fork and go on
        </button>
        <button
          type="button"
          class="quiet"
          disabled={s.state === 'active'}
          onClick={() => (sure ? remove() : setSure(true))}
          onBlur={() => setSure(false)}
        >
          <Icon name="trash" /> {sure ? 'Really forget it?' : 'Forget'}
        </button>
      </p>
    </div>
  );
}

async function read(id: string, signal: AbortSignal): Promise<Said[]> {
  const { tokens } = await getJson<{ tokens: number[] }>(`/v1/sessions/${encodeURIComponent(id)}/tokens`, signal);
  const response = await call('/detokenize', { body: { tokens, special: true }, signal });
  return transcript(((await response.json()) as { text: string }).text);
}
