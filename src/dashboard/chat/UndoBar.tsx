/** What was deleted a moment ago can be had back. */
import { useStore } from '../ui/store.js';
import { removed, restoreChat } from './chats.js';

export function UndoBar() {
  const { last } = useStore(removed);
  return (
    <div class="undo" role="status">
      {last && (
        <p>
          <span class="cut">
            Deleted <b>{last.title}</b>
          </span>
          <button type="button" class="small" onClick={restoreChat}>
            Undo
          </button>
        </p>
      )}
    </div>
  );
}
