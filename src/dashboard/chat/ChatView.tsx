/** The open conversation and the field to go on with it. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { integer } from '../ui/format.js';
import { Icon } from '../ui/Icon.js';
import { useStore } from '../ui/store.js';
import { ChatBar } from './ChatBar.js';
import { chats, openChat, send, stop } from './chats.js';
import { type Conversation, isEmpty, type Resumed } from './model.js';
import { Saying } from './Saying.js';
import { SettingsPanel } from './SettingsPanel.js';
import { usual } from './settings.js';
import { TurnView } from './TurnView.js';
import { UndoBar } from './UndoBar.js';

const IDEAS = [
  'Explain in three sentences what a KV cache is.',
  'Write a short poem about remembering.',
  'What is the difference between a list and a tuple in Python?',
];
/** Closer to the end than this, the view follows the text. */
const FOLLOW_PX = 80;

export function ChatView() {
  const { running } = useStore(chats);
  useStore(usual);
  const chat = openChat();
  const busy = running.has(chat.id);
  const scroller = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const last = chat.turns.at(-1);

  useLayoutEffect(() => {
    const s = scroller.current;
    if (s && following.current) s.scrollTop = s.scrollHeight;
  });
  useEffect(() => {
    following.current = true;
  }, [chat.id, chat.turns.length]);

  return (
    <section class="chat" aria-label="Chat">
      <ChatBar key={`bar ${chat.id}`} chat={chat} />
      <div
        class="turns"
        ref={scroller}
        onScroll={(e) => {
          const s = e.currentTarget;
          following.current = s.scrollHeight - s.scrollTop - s.clientHeight < FOLLOW_PX;
        }}
      >
        {chat.resumed && <Before resumed={chat.resumed} />}
        {isEmpty(chat) && <Welcome onAsk={(text) => send(chat.id, text)} />}
        {chat.turns.map((turn, i) => (
          <TurnView key={turn.id} chat={chat.id} turn={turn} index={i} last={turn === last} busy={busy} />
        ))}
      </div>
      <UndoBar />
      <Composer key={chat.id} chat={chat} busy={busy} />
    </section>
  );
}

/** What was said in a session before it was resumed here. */
function Before({ resumed: { session, tokens, before } }: { resumed: Resumed }) {
  return (
    <section class="before" aria-label="What was said before">
      {before.map((said, i) => (
        <Saying key={`${i} ${said.role}`} said={said} />
      ))}
      <p class="note">
        Session <code>{session}</code> had {integer(tokens)} tokens when it was resumed here. It goes on from there;
        only what is new is sent.
      </p>
    </section>
  );
}

function Welcome({ onAsk }: { onAsk: (text: string) => void }) {
  return (
    <div class="welcome">
      <h2>Talk to the model</h2>
      <p>
        Each conversation is a session whose KV stays in the cache while there is room. When it had to make room, its
        tokens are computed again the next time you write. You will see it in the numbers, never in the answer.
      </p>
      <ul>
        {IDEAS.map((idea) => (
          <li key={idea}>
            <button type="button" class="idea" onClick={() => onAsk(idea)}>
              {idea}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Composer({ chat: conversation, busy }: { chat: Conversation; busy: boolean }) {
  const chat = conversation.id;
  const [text, setText] = useState('');
  const [settingsOpen, setSettingsOpen] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const f = field.current;
    if (!f) return;
    f.style.height = 'auto';
    f.style.height = `${f.scrollHeight}px`;
  }, [text]);
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      if (e.key === 'Escape') stop(chat);
      const typing = e.target instanceof HTMLElement && /^(TEXTAREA|INPUT|SELECT)$/.test(e.target.tagName);
      if (e.key === '/' && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
        e.preventDefault();
        field.current?.focus();
      }
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [chat]);
  const submit = () => {
    if (busy || !text.trim()) return;
    send(chat, text.trim());
    setText('');
  };
  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      {settingsOpen && <SettingsPanel chat={conversation} />}
      <div class="field">
        <button
          type="button"
          class="quiet"
          aria-label="Settings"
          title="System prompt and sampling of this conversation"
          aria-expanded={settingsOpen}
          onClick={() => setSettingsOpen(!settingsOpen)}
        >
          <Icon name="gear" />
        </button>
        <textarea
          ref={field}
          rows={1}
          placeholder="Write a message…"
          aria-label="Message"
          value={text}
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
            e.preventDefault();
            submit();
          }}
        />
        {busy ? (
          <button type="button" class="primary round" aria-label="Stop" title="Stop (Esc)" onClick={() => stop(chat)}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" class="primary round" aria-label="Send" title="Send (Enter)" disabled={!text.trim()}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <p class="hint">Enter sends · Shift+Enter for a new line · Esc stops · / jumps here</p>
    </form>
  );
}
