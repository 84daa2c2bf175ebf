/** Conversations out of a file that this page or `longmind chat` wrote. Pure. */

export interface Imported {
  title: string;
  system: string;
  /** null: the question was not answered. */
  turns: { user: string; answer: string | null }[];
}

/** Throws an Error with what is wrong, in words for people. */
export function readConversations(text: string): Imported[] {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    throw new Error('this is not a JSON file');
  }
  const { longmind, conversations } = (raw ?? {}) as { longmind?: unknown; conversations?: unknown };
  if (longmind === 'chat') return [readOne(raw)];
  if (longmind === 'chats' && Array.isArray(conversations)) return conversations.map(readOne);
  throw new Error('this is not a conversation that was saved here or by longmind chat');
}

function readOne(raw: unknown): Imported {
  const { title, messages } = (raw ?? {}) as { title?: unknown; messages?: unknown };
  if (!Array.isArray(messages)) throw new Error('a conversation in it has no messages');
  const out: Imported = { title: typeof title === 'string' ? title : '', system: '', turns: [] };
  for (const m of messages as { role?: unknown; content?: unknown }[]) {
    if (typeof m?.content !== 'string') throw new Error('a message in it has no text');
    const last = out.turns.at(-1);
    if (m.role === 'system') out.system = out.system ? `${out.system}\n${m.content}` : m.content;
    else if (m.role === 'user') out.turns.push({ user: m.content, answer: null });
    else if (m.role === 'assistant' && last?.answer === null) last.answer = m.content;
    else
      throw new Error(`a message of '${String(m.role)}' in it has no place in a conversation of questions and answers`);
  }
  return out;
}
