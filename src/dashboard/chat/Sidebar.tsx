/** The conversations, each with what the cache still holds of it. */
import { useState } from 'preact/hooks';
import { live } from '../live/connection.js';
import type { Sequence } from '../live/picture.js';
import { Icon } from '../ui/Icon.js';
import { sessionColour } from '../ui/sessions.js';
import { useStore } from '../ui/store.js';
import { addChat, chats, removeChat, show } from './chats.js';
import { FileButtons } from './FileButtons.js';
import { type Conversation, holds, isEmpty, sessionOf } from './model.js';

export function Sidebar({ onPick }: { onPick: () => void }) {
  const { all, open, running } = useStore(chats);
  const { picture } = useStore(live);
  const [words, setWords] = useState('');
  const shown = words.trim() === '' ? all : all.filter((c) => holds(c, words.trim()));
  const bySession = new Map<string, Sequence>();
  for (const q of picture?.sequences.values() ?? []) if (q.sessionId && q.ours) bySession.set(q.sessionId, q);
  return (
    <nav class="sidebar" aria-label="Conversations">
      <button
        type="button"
        class="new"
        onClick={() => {
          addChat();
          onPick();
        }}
      >
        <Icon name="plus" /> New conversation
      </button>
      {(all.length > 1 || words !== '') && (
        <input
          type="search"
          class="search"
          placeholder="Search"
          aria-label="Search the conversations"
          value={words}
          onInput={(e) => setWords(e.currentTarget.value)}
        />
      )}
      {shown.length === 0 && <p class="note">No conversation holds this.</p>}
      <ul>
        {shown.map((c) => (
          <li key={c.id} class={c.id === open ? 'open' : ''}>
            <button
              type="button"
              class="pick"
              aria-current={c.id === open ? 'true' : undefined}
              onClick={() => {
                show(c.id);
                onPick();
              }}
            >
              <span class="title">{c.title}</span>
              <Kept conversation={c} sequence={bySession.get(sessionOf(c))} running={running.has(c.id)} />
            </button>
            <button
              type="button"
              class="quiet remove"
              title="Delete"
              aria-label={`Delete ${c.title}`}
              onClick={() => removeChat(c.id)}
            >
              <Icon name="trash" />
            </button>
          </li>
        ))}
      </ul>
      <FileButtons onImported={onPick} />
    </nav>
  );
}

/** How much of its KV is there: a bar and words. */
function Kept({
  conversation,
  sequence,
  running,
}: {
  conversation: Conversation;
  sequence?: Sequence;
  running: boolean;
}) {
  if (!sequence) {
    return (
      <span class="kept none">{isEmpty(conversation) ? 'empty' : running ? 'on its way' : 'not on the server'}</span>
    );
  }
  const { known, computed, state } = sequence;
  const share = known === 0 ? 0 : Math.min(1, computed / known);
  const words = { active: 'active', cached: 'cached', evicted: 'evicted' }[state];
  return (
    <span class={`kept ${state}`} title={`${computed} of ${known} tokens have their KV in the cache`}>
      <span class="bar">
        <span style={{ width: `${share * 100}%`, background: sessionColour(sessionOf(conversation)) }} />
      </span>
      {words} {computed}/{known}
    </span>
  );
}
