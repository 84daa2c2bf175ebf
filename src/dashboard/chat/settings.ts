/** What goes with every question: what a new conversation begins with, and what one has of its own. */
import { Store } from '../ui/store.js';
import type { Settings } from './model.js';

const KEPT = 'longmind.settings';

const standard: Settings = {
  system: '',
  temperature: 0.7,
  topP: 0.95,
  topK: 0,
  repetitionPenalty: 1,
  seed: null,
  maxTokens: null,
};

/** From storage or a file: fields of another kind are left out. */
function readSettings(raw: unknown): Partial<Settings> {
  const given = (raw ?? {}) as Record<string, unknown>;
  const out: Record<string, unknown> = {};
  for (const [name, usual] of Object.entries(standard)) {
    const value = given[name];
    const kind = usual === null ? 'number' : typeof usual;
    if (typeof value === kind || (usual === null && value === null)) out[name] = value;
  }
  return out as Partial<Settings>;
}

function begin(): Settings {
  try {
    return { ...standard, ...readSettings(JSON.parse(localStorage.getItem(KEPT) ?? 'null')) };
  } catch {
    return standard;
  }
}

/** Of conversations that have none of their own. */
export const usual = new Store<Settings>(begin());
usual.follow(() => localStorage.setItem(KEPT, JSON.stringify(usual.value)));
