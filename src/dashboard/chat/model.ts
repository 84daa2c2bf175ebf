/** Conversations as this browser keeps them, and the pure rules on them. */

export interface Answer {
  text: string;
  /** What the model thought before it. */
  reasoning?: string;
  /** The session on the server that holds this answer's branch. */
  session: string;
  /** stopped: by the reader; limit: by the token limit; cut: the page was closed meanwhile. */
  state: 'running' | 'done' | 'stopped' | 'limit' | 'cut' | 'failed';
  /** Why it failed. */
  problem?: string;
  usage?: { prompt: number; cached: number; completion: number };
  ttftMs?: number;
  /** Tokens a second after the first. */
  speed?: number;
}

export interface Turn {
  id: string;
  user: string;
  /** One for each time it was asked. */
  answers: Answer[];
  chosen: number;
}

/** What goes with every question. */
export interface Settings {
  system: string;
  temperature: number;
  topP: number;
  /** 0: off. */
  topK: number;
  /** 1: off. */
  repetitionPenalty: number;
  /** null: another one each time. */
  seed: number | null;
  /** null: as much as fits. */
  maxTokens: number | null;
}

/** A session of the server that somebody else began, or that this browser had forgotten: only what is new is sent. */
export interface Resumed {
  session: string;
  /** It had so many when it was resumed. */
  tokens: number;
  /** What was said in it before, as far as it could be read. */
  before: Said[];
}

/** `text`: what could not be told apart. */
export interface Said {
  role: 'system' | 'user' | 'assistant' | 'tool' | 'text';
  content: string;
}

export interface Conversation {
  id: string;
  resumed?: Resumed;
  title: string;
  /** The title was chosen, not taken from the first question. */
  named?: boolean;
  /** Its own; left out: the usual ones. */
  settings?: Settings;
  updated: number;
  turns: Turn[];
  /** Branches so far: the next one gets this number. */
  branches: number;
}

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export const answerOf = (turn: Turn): Answer | undefined => turn.answers[turn.chosen];

/** The session that goes on when the next question is asked. */
export function sessionOf(c: Conversation): string {
  for (let i = c.turns.length - 1; i >= 0; i--) {
    const a = answerOf(c.turns[i] as Turn);
    if (a) return a.session;
  }
  return c.resumed?.session ?? c.id;
}

/** Nothing was said in it. */
export const isEmpty = (c: Conversation): boolean => c.turns.length === 0 && !c.resumed;

/** Does it hold all of these words, in its title or in what was said? Whatever their case. */
export function holds(c: Conversation, words: string): boolean {
  const before = c.resumed?.before.map((m) => m.content) ?? [];
  const text = [c.title, ...before, ...c.turns.flatMap((t) => [t.user, ...t.answers.map((a) => a.text)])]
    .join('\n')
    .toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

/**
 * Everything up to and including turn `last`'s question. The server matches it with what it keeps, token by token. Of a session
 * that was resumed only the question: the server knows better than this page what came before.
 */
export function messagesFor(c: Conversation, last: number, system: string): Message[] {
  if (c.resumed) return [{ role: 'user', content: (c.turns[last] as Turn).user }];
  const out: Message[] = system.trim() ? [{ role: 'system', content: system.trim() }] : [];
  c.turns.slice(0, last + 1).forEach((turn, i) => {
    out.push({ role: 'user', content: turn.user });
    const answer = answerOf(turn);
    if (i < last && answer?.text) out.push({ role: 'assistant', content: answer.text });
  });
  return out;
}

/** Tokens of a session before turn `index` was asked: what an edit of that turn keeps. Null: not known. */
export function tokensBefore(c: Conversation, index: number): number | null {
  if (index === 0) return c.resumed?.tokens ?? 0;
  const usage = answerOf(c.turns[index - 1] as Turn)?.usage;
  return usage ? usage.prompt + usage.completion : null;
}

/** All sessions a conversation has on the server. */
export const sessionsOf = (c: Conversation): string[] => [
  ...new Set([c.resumed?.session ?? c.id, ...c.turns.flatMap((t) => t.answers.map((a) => a.session))]),
];

/** Of these sessions, the ones that this page made and may forget. */
export const ownSessions = (c: Conversation, sessions: string[]): string[] =>
  sessions.filter((s) => s !== c.resumed?.session);

export function titleOf(text: string): string {
  const line = text.trim().replace(/\s+/g, ' ');
  return line.length > 48 ? `${line.slice(0, 47)}…` : line || 'New conversation';
}

export const newConversation = (now: number, id: string): Conversation => ({
  id,
  title: 'New conversation',
  updated: now,
  turns: [],
  branches: 1,
});

/** From storage: anything that is not a conversation is left out; an answer that was running when the page closed is cut. */
export function revive(raw: unknown): Conversation[] {
  if (!Array.isArray(raw)) return [];
  return raw.filter(isConversation).map((c) => ({
    ...c,
    turns: c.turns.map((t) => ({
      ...t,
      answers: t.answers.map((a) => (a.state === 'running' ? { ...a, state: 'cut' as const } : a)),
    })),
  }));
}

function isConversation(raw: unknown): raw is Conversation {
  const c = raw as Partial<Conversation> | null;
  return (
    typeof c?.id === 'string' &&
    typeof c.title === 'string' &&
    Array.isArray(c.turns) &&
    c.turns.every(
      (t) =>
        typeof t?.user === 'string' && Array.isArray(t.answers) && t.answers.every((a) => typeof a?.text === 'string'),
    )
  );
}

/**
 * What two tabs hold, as one: the newer of each conversation, but mine while it runs here. One that the other tab does not have
 * was deleted there, unless it was touched here since the other saved (`savedAt`), or is open or running here.
 */
export function mergeConversations(
  mine: Conversation[],
  theirs: Conversation[],
  savedAt: number,
  use: (id: string) => 'open' | 'running' | null,
): Conversation[] {
  const other = new Map(theirs.map((c) => [c.id, c]));
  const kept = mine.flatMap((c) => {
    const o = other.get(c.id);
    if (o) return [o.updated > c.updated && use(c.id) !== 'running' ? o : c];
    return c.updated > savedAt || use(c.id) !== null ? [c] : [];
  });
  const known = new Set(mine.map((c) => c.id));
  return [...theirs.filter((c) => !known.has(c.id)), ...kept];
}
