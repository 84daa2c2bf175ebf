/** What the middle of the page shows. `engine` counts on narrow screens alone: elsewhere the engine has its own place. */
import { Store } from './store.js';

export type View = 'chat' | 'sessions' | 'requests' | 'engine';

export const view = new Store<{ shown: View }>({ shown: 'chat' });

export const showView = (shown: View): void => view.set({ shown });
