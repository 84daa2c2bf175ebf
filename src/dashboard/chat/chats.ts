/** The conversations: kept in this browser, answered by the server. */
import { call, forgetSessions } from '../ui/api.js';
import { Store } from '../ui/store.js';
import { ask } from './completion.js';
import type { Imported } from './import.js';
import {
  type Answer,
  answerOf,
  type Conversation,
  isEmpty,
  mergeConversations,
  messagesFor,
  newConversation,
  ownSessions,
  revive,
  type Said,
  type Settings,
  sessionOf,
  sessionsOf,
  type Turn,
  titleOf,
  tokensBefore,
} from './model.js';
import { usual } from './settings.js';

const KEPT = 'longmind.conversations';
const SAVE_MS = 500;
/** So long a deleted conversation can be had back. */
const UNDO_MS = 8_000;

export interface Chats {
  all: Conversation[];
  open: string;
  /** Conversations that are being answered. */
  running: ReadonlyMap<string, AbortController>;
}

const randomId = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(5)), (b) => b.toString(36).padStart(2, '0'))
    .join('')
    .slice(0, 8);

const stored = <T>(key: string, fallback: T): T => {
  try {
    return (JSON.parse(localStorage.getItem(key) ?? 'null') as T | null) ?? fallback;
  } catch {
    return fallback;
  }
};

function begin(): Chats {
  const { all, open } = stored<{ all: unknown; open: string }>(KEPT, { all: [], open: '' });
  const kept = revive(all);
  if (kept.length === 0) kept.push(newConversation(Date.now(), `chat-${randomId()}`));
  return { all: kept, open: kept.some((c) => c.id === open) ? open : (kept[0] as Conversation).id, running: new Map() };
}

export const chats = new Store<Chats>(begin());

let saving: ReturnType<typeof setTimeout> | undefined;
const save = (): void => {
  clearTimeout(saving);
  saving = undefined;
  const { all, open } = chats.value;
  // where the browser's store is full, the oldest conversations stay on this page only
  for (let kept = all.length; kept > 0; kept--) {
    try {
      localStorage.setItem(KEPT, JSON.stringify({ all: all.slice(0, kept), open, savedAt: Date.now() }));
      return;
    } catch {}
  }
};
chats.follow(() => {
  saving ??= setTimeout(save, SAVE_MS);
});
addEventListener('pagehide', save);
addEventListener('storage', ({ key }) => {
  if (key !== KEPT) return;
  const { all, savedAt } = stored<{ all: unknown; savedAt: number }>(KEPT, { all: [], savedAt: 0 });
  const { running, open } = chats.value;
  const use = (id: string) => (running.has(id) ? 'running' : id === open ? 'open' : null);
  chats.patch({ all: mergeConversations(chats.value.all, revive(all), savedAt, use) });
});

export const openChat = (): Conversation => find(chats.value.open) as Conversation;
const find = (id: string): Conversation | undefined => chats.value.all.find((c) => c.id === id);

function change(id: string, f: (c: Conversation) => Conversation): void {
  chats.patch({ all: chats.value.all.map((c) => (c.id === id ? f(c) : c)) });
}

const changeTurn = (id: string, index: number, f: (t: Turn) => Turn): void =>
  change(id, (c) => ({ ...c, turns: c.turns.map((t, i) => (i === index ? f(t) : t)) }));

export function addChat(): void {
  const empty = chats.value.all.find(isEmpty);
  if (empty) {
    show(empty.id);
    return;
  }
  const c = newConversation(Date.now(), `chat-${randomId()}`);
  chats.patch({ all: [c, ...chats.value.all], open: c.id });
}

export const show = (id: string): void => chats.patch({ open: id });

export function rename(id: string, title: string): void {
  change(id, (c) => ({ ...c, title, named: true, updated: Date.now() }));
}

export const settingsOf = (c: Conversation): Settings => c.settings ?? usual.value;

/** undefined: as usual again. */
export function setSettings(id: string, settings: Settings | undefined): void {
  change(id, (c) => ({ ...c, settings, updated: Date.now() }));
}

/** The conversation that was deleted last, while it can be had back. */
export const removed = new Store<{ last: Conversation | null }>({ last: null });
let removal: ReturnType<typeof setTimeout> | undefined;

/** Off the list at once; its sessions are forgotten when nobody wants it back. */
export function removeChat(id: string): void {
  const c = find(id);
  if (!c) return;
  stop(id);
  const all = chats.value.all.filter((x) => x.id !== id);
  if (all.length === 0) all.push(newConversation(Date.now(), `chat-${randomId()}`));
  chats.patch({ all, open: chats.value.open === id ? (all[0] as Conversation).id : chats.value.open });
  removeForGood();
  if (c.turns.length === 0) return;
  removed.set({ last: c });
  removal = setTimeout(removeForGood, UNDO_MS);
}

function removeForGood(): void {
  clearTimeout(removal);
  const { last } = removed.value;
  removed.set({ last: null });
  if (last) forget(ownSessions(last, sessionsOf(last)));
}
addEventListener('pagehide', removeForGood);

/** What was deleted last is there again, and open. */
export function restoreChat(): void {
  const { last } = removed.value;
  if (!last) return;
  clearTimeout(removal);
  removed.set({ last: null });
  const [back] = revive([{ ...last, updated: Date.now() }]);
  const others = chats.value.all.filter((c) => !isEmpty(c));
  chats.patch({ all: [back as Conversation, ...others], open: last.id });
}

const forget = (sessions: string[]): void => {
  if (sessions.length > 0) void forgetSessions(sessions);
};

export const stop = (id: string): void => chats.value.running.get(id)?.abort();

export function send(id: string, text: string): void {
  const c = find(id);
  if (!c || chats.value.running.has(id)) return;
  const session = sessionOf(c);
  // the answers that were not chosen lead nowhere now
  const last = c.turns.at(-1);
  if (last) forget(ownSessions(c, sessionsOf({ ...c, turns: [last] })).filter((s) => s !== session));
  change(id, (x) => ({
    ...x,
    title: x.turns.length === 0 && !x.named ? titleOf(text) : x.title,
    updated: Date.now(),
    turns: [...x.turns, { id: randomId(), user: text, answers: [], chosen: 0 }],
  }));
  void answer(id, c.turns.length, session);
}

/** Another answer to the last question, on a fork of the session: the old one stays, and the cache holds their common part once. */
export async function regenerate(id: string): Promise<void> {
  const c = find(id);
  const turn = c?.turns.at(-1);
  if (!c || !turn || chats.value.running.has(id)) return;
  const old = answerOf(turn);
  const branch = `${c.id}.${c.branches}`;
  change(id, (x) => ({ ...x, branches: x.branches + 1 }));
  const done = answer(id, c.turns.length - 1, branch, async () => {
    if (!old) return;
    const length = c.resumed ? resumedLength(c, c.turns.length - 1) : old.usage?.prompt;
    const body = length === undefined ? { id: branch } : { id: branch, length };
    await call(`/v1/sessions/${encodeURIComponent(old.session)}/fork`, { body });
  });
  await done;
}

/** Asks turn `index` anew with another text: what came after it is gone, and the session is rewound to before it. */
export async function edit(id: string, index: number, text: string): Promise<void> {
  const c = find(id);
  const turn = c?.turns[index];
  if (!c || !turn || chats.value.running.has(id)) return;
  const current = sessionOf(c);
  const length = tokensBefore(c, index);
  const gone = sessionsOf({ ...c, turns: c.turns.slice(index) });
  change(id, (x) => ({
    ...x,
    title: index === 0 && !x.named ? titleOf(text) : x.title,
    turns: [...x.turns.slice(0, index), { id: randomId(), user: text, answers: [], chosen: 0 }],
  }));
  await answer(id, index, current, async () => {
    forget(ownSessions(c, gone).filter((s) => s !== current));
    if (length === null && !c.resumed) return;
    await call(`/v1/sessions/${encodeURIComponent(current)}/truncate`, {
      body: { length: c.resumed ? resumedLength(c, index) : length },
    });
  });
}

/** What is appended must not stand there twice, so the length before a turn has to be known. */
function resumedLength(c: Conversation, index: number): number {
  const length = tokensBefore(c, index);
  if (length === null)
    throw new Error('how long the session was before this turn is not known: fork it under Sessions');
  return length;
}

/** A session of the server becomes a conversation of this page; `before` is what was said in it. */
export function resumeSession(session: string, tokens: number, before: Said[]): void {
  const known = chats.value.all.find((c) => sessionOf(c) === session && !isEmpty(c));
  if (known) {
    show(known.id);
    return;
  }
  const c = newConversation(Date.now(), `chat-${randomId()}`);
  const first = before.find((m) => m.role === 'user');
  const title = first ? titleOf(first.content) : session;
  chats.patch({
    all: [{ ...c, title, named: true, resumed: { session, tokens, before } }, ...chats.value.all],
    open: c.id,
  });
}

/** Conversations from a file, on top of the list. */
export function addImported(read: Imported[]): void {
  const fresh = read.map(({ title, system, turns }): Conversation => {
    const id = `chat-${randomId()}`;
    return {
      ...newConversation(Date.now(), id),
      title: title || titleOf(turns[0]?.user ?? ''),
      named: true,
      ...(system ? { settings: { ...usual.value, system } } : {}),
      turns: turns.map((t) => ({
        id: randomId(),
        user: t.user,
        answers: t.answer === null ? [] : [{ text: t.answer, session: id, state: 'done' }],
        chosen: 0,
      })),
    };
  });
  if (fresh.length === 0) return;
  const others = chats.value.all.filter((c) => !isEmpty(c));
  chats.patch({ all: [...fresh, ...others], open: (fresh[0] as Conversation).id });
}

export function choose(id: string, index: number, chosen: number): void {
  changeTurn(id, index, (t) => ({ ...t, chosen: Math.max(0, Math.min(t.answers.length - 1, chosen)) }));
}

/**
 * Adds an answer to turn `index` and lets it grow. `before` prepares the session (fork, truncate); should it fail, because the
 * server has forgotten the session, the whole history is sent anyway and makes the session anew.
 */
async function answer(id: string, index: number, session: string, before?: () => Promise<unknown>): Promise<void> {
  const stopper = new AbortController();
  chats.patch({ running: new Map(chats.value.running).set(id, stopper) });
  const conversation = find(id) as Conversation;
  const { system, ...sampling } = settingsOf(conversation);
  const messages = messagesFor(conversation, index, system);
  changeTurn(id, index, (t) => ({
    ...t,
    answers: [...t.answers, { text: '', session, state: 'running' }],
    chosen: t.answers.length,
  }));
  const grow = (fields: Partial<Answer>): void =>
    changeTurn(id, index, (t) => ({
      ...t,
      answers: t.answers.map((a, i) => (i === t.answers.length - 1 ? { ...a, ...fields } : a)),
    }));
  try {
    const { resumed } = conversation;
    // one that the server has forgotten would begin anew, without what came before
    if (resumed) await (before ?? (() => call(`/v1/sessions/${encodeURIComponent(session)}`)))();
    else await before?.().catch(() => {});
    const got = await ask(
      { messages, session, append: resumed !== undefined, ...sampling },
      stopper.signal,
      (text, reasoning) => grow(reasoning === '' ? { text } : { text, reasoning }),
    );
    grow({
      text: got.text,
      ...(got.reasoning === '' ? {} : { reasoning: got.reasoning }),
      state: got.reason === 'abort' ? 'stopped' : got.reason === 'length' ? 'limit' : 'done',
      usage: got.usage ?? undefined,
      ttftMs: got.ttftMs ?? undefined,
      speed: got.speed ?? undefined,
    });
  } catch (error) {
    grow({ state: 'failed', problem: error instanceof Error ? error.message : String(error) });
  } finally {
    const running = new Map(chats.value.running);
    running.delete(id);
    chats.patch({ running });
    change(id, (c) => ({ ...c, updated: Date.now() }));
  }
}
