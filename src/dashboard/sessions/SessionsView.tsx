/** The sessions of all clients that this key may see: searched, as trees of forks, looked into, gone on with. */
import { useState } from 'preact/hooks';
import { chats } from '../chat/chats.js';
import { integer } from '../ui/format.js';
import { usePolled } from '../ui/poll.js';
import { labelOf } from '../ui/sessions.js';
import { useStore } from '../ui/store.js';
import { forest, type Session, search, type Tree } from './forest.js';
import { SessionRow } from './SessionRow.js';

const EVERY_MS = 3_000;
const SHOWN = 200;

export function SessionsView() {
  useStore(chats);
  const { value, problem, again } = usePolled<{ data: Session[] }>('/v1/sessions', EVERY_MS);
  const [words, setWords] = useState('');
  const [open, setOpen] = useState<string | null>(null);
  const all = value?.data ?? [];
  const { shown, found } = search(forest(all), matcher(words), SHOWN);
  const tokens = all.reduce((n, s) => n + s.tokens, 0);
  const cached = all.reduce((n, s) => n + s.cached_tokens, 0);
  const branch = (trees: Tree[], label?: string) => (
    <ul aria-label={label}>
      {trees.map(({ session, forks }) => (
        <li key={session.id}>
          <SessionRow
            session={session}
            open={open === session.id}
            onToggle={() => setOpen(open === session.id ? null : session.id)}
            onChanged={again}
          />
          {forks.length > 0 && branch(forks, `Forks of ${session.id}`)}
        </li>
      ))}
    </ul>
  );
  return (
    <section class="list-view sessions" aria-labelledby="sessions-title">
      <header>
        <h2 id="sessions-title">Sessions</h2>
        {value && (
          <p class="note">
            {integer(all.length)} kept, {integer(tokens)} tokens, {integer(cached)} of them with their KV
          </p>
        )}
        <input
          type="search"
          class="search"
          placeholder="Search by name"
          aria-label="Search the sessions"
          value={words}
          onInput={(e) => setWords(e.currentTarget.value)}
        />
      </header>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <p class="note" role="status">
        {value &&
          all.length === 0 &&
          'Nobody has a session yet: one begins with a request that names it in session_id, or with a chat.'}
        {value && all.length > 0 && found === 0 && 'No session is called so.'}
        {found > SHOWN && `The first ${SHOWN} of ${integer(found)} are shown: search for the others.`}
      </p>
      <div class="tree">{branch(shown, 'Sessions')}</div>
    </section>
  );
}

/** By its id, or by the title of the conversation that it belongs to here. */
function matcher(words: string): (s: Session) => boolean {
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  return ({ id }) => {
    const text = `${id} ${labelOf({ number: -1, sessionId: id, ours: true })}`.toLowerCase();
    return parts.every((p) => text.includes(p));
  };
}
