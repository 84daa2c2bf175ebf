/** Above a conversation: its name, and what can be done with all of it. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { live } from '../live/connection.js';
import { Icon } from '../ui/Icon.js';
import { rename, settingsOf } from './chats.js';
import { asJson, asMarkdown, download, type Format, fileName } from './export.js';
import { type Conversation, isEmpty } from './model.js';

export function ChatBar({ chat }: { chat: Conversation }) {
  const [naming, setNaming] = useState(false);
  const save = (format: Format) => {
    const { system } = settingsOf(chat);
    const model = live.value.about?.servedModelName ?? '';
    download(fileName(chat.title, format), format === 'md' ? asMarkdown(chat, system) : asJson(chat, system, model));
  };
  if (isEmpty(chat)) return null;
  return (
    <header class="chat-bar">
      {naming ? (
        <NameField
          title={chat.title}
          onDone={(title) => {
            setNaming(false);
            if (title) rename(chat.id, title);
          }}
        />
      ) : (
        <h2>
          <button type="button" class="quiet chat-name" title="Rename" onClick={() => setNaming(true)}>
            <span class="cut">{chat.title}</span> <Icon name="edit" />
          </button>
        </h2>
      )}
      <fieldset class="exports" aria-label="Export">
        <button type="button" class="quiet small" title="Save as Markdown" onClick={() => save('md')}>
          <Icon name="down" /> Markdown
        </button>
        <button
          type="button"
          class="quiet small"
          title="Save as JSON: 'longmind chat' reads it with /load"
          onClick={() => save('json')}
        >
          <Icon name="down" /> JSON
        </button>
      </fieldset>
    </header>
  );
}

/** `onDone`: null where nothing shall change. */
function NameField({ title, onDone }: { title: string; onDone: (title: string | null) => void }) {
  const field = useRef<HTMLInputElement>(null);
  const over = useRef(false);
  useEffect(() => field.current?.select(), []);
  const end = (keep: boolean) => {
    if (over.current) return;
    over.current = true;
    onDone(keep ? (field.current?.value.trim() ?? null) : null);
  };
  return (
    <input
      ref={field}
      class="chat-name-field"
      aria-label="Name of the conversation"
      maxLength={200}
      defaultValue={title}
      onBlur={() => end(true)}
      onKeyDown={(e) => {
        if (e.key === 'Enter' && !e.isComposing) end(true);
        if (e.key === 'Escape') {
          e.stopPropagation();
          end(false);
        }
      }}
    />
  );
}
