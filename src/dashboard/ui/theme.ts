/** Light and dark: as the system says, until the reader chooses. */
import { Store } from './store.js';

const KEPT = 'longmind.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

type Choice = 'light' | 'dark' | null;
const kept = localStorage.getItem(KEPT);
let choice: Choice = kept === 'light' || kept === 'dark' ? kept : null;

const current = (): 'light' | 'dark' => choice ?? (system.matches ? 'dark' : 'light');

export const theme = new Store<'light' | 'dark'>(current());

function apply(): void {
  document.documentElement.dataset.theme = current();
  theme.set(current());
}
system.addEventListener('change', apply);
apply();

export function toggleTheme(): void {
  choice = current() === 'dark' ? 'light' : 'dark';
  localStorage.setItem(KEPT, choice);
  apply();
}

/** A colour of the style sheet, for canvases. */
export const colour = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();
