/** Whether the engine stands beside the chat, where there is room for both. Kept for the next visit. */
import { Store } from './store.js';

const KEPT = 'longmind.pane';

export const pane = new Store<{ shown: boolean }>({ shown: localStorage.getItem(KEPT) !== 'hidden' });

export function togglePane(): void {
  const shown = !pane.value.shown;
  localStorage.setItem(KEPT, shown ? 'shown' : 'hidden');
  pane.set({ shown });
}
