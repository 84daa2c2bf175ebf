/** Conversations into a file, and out of one. */
import { useRef, useState } from 'preact/hooks';
import { live } from '../live/connection.js';
import { Icon } from '../ui/Icon.js';
import { addImported, chats, settingsOf } from './chats.js';
import { allAsJson, download } from './export.js';
import { readConversations } from './import.js';
import { isEmpty } from './model.js';

/** Larger files are not what a browser keeps. */
const MAX_BYTES = 16 * 2 ** 20;

export function FileButtons({ onImported }: { onImported: () => void }) {
  const [problem, setProblem] = useState<string | null>(null);
  const field = useRef<HTMLInputElement>(null);
  const read = async (files: FileList | null) => {
    setProblem(null);
    try {
      for (const file of files ?? []) {
        if (file.size > MAX_BYTES) throw new Error('it is too large');
        addImported(readConversations(await file.text()));
        onImported();
      }
    } catch (e) {
      setProblem((e as Error).message);
    }
    if (field.current) field.current.value = '';
  };
  const saveAll = () => {
    const all = chats.value.all.filter((c) => !isEmpty(c));
    const model = live.value.about?.servedModelName ?? '';
    const text = allAsJson(
      all.map((chat) => ({ chat, system: settingsOf(chat).system })),
      model,
    );
    download(`longmind-conversations-${new Date().toISOString().slice(0, 10)}.json`, text);
  };
  return (
    <div class="files">
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <button
        type="button"
        class="quiet small"
        title="Conversations that were saved here or by longmind chat"
        onClick={() => field.current?.click()}
      >
        <Icon name="up" /> Import
      </button>
      <input
        ref={field}
        type="file"
        accept=".json,application/json"
        multiple
        hidden
        aria-label="Files to import"
        onChange={(e) => void read(e.currentTarget.files)}
      />
      <button
        type="button"
        class="quiet small"
        title="All conversations in one file"
        disabled={chats.value.all.every(isEmpty)}
        onClick={saveAll}
      >
        <Icon name="down" /> Export all
      </button>
    </div>
  );
}
