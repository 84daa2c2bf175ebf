/** A conversation as a file. Pure, but for the download itself. */
import { answerOf, type Conversation } from './model.js';

export type Format = 'md' | 'json';

const HEADINGS = { system: 'System', user: 'You', assistant: 'Assistant', tool: 'Tool', text: 'Before' };

/** What was said, the chosen answers only, as somebody would write it down. */
export function asMarkdown(c: Conversation, system: string): string {
  const parts = [`# ${c.title}`];
  if (system.trim()) parts.push(`> ${system.trim().replace(/\n/g, '\n> ')}`);
  for (const { role, content } of c.resumed?.before ?? []) parts.push(`## ${HEADINGS[role]}\n\n${content}`);
  for (const turn of c.turns) {
    parts.push(`## You\n\n${turn.user}`);
    const answer = answerOf(turn);
    if (answer?.text) parts.push(`## Assistant\n\n${answer.text}`);
  }
  return `${parts.join('\n\n')}\n`;
}

/** As `longmind chat` saves and loads it. */
export function asJson(c: Conversation, system: string, model: string): string {
  return `${JSON.stringify(plain(c, system, model), null, 2)}\n`;
}

/** All of them in one file, which this page reads again. */
export function allAsJson(all: { chat: Conversation; system: string }[], model: string): string {
  const conversations = all.map(({ chat, system }) => plain(chat, system, model));
  return `${JSON.stringify({ longmind: 'chats', conversations }, null, 2)}\n`;
}

function plain(c: Conversation, system: string, model: string) {
  const messages = system.trim() ? [{ role: 'system', content: system.trim() }] : [];
  for (const m of c.resumed?.before ?? []) if (m.role !== 'text') messages.push(m);
  for (const turn of c.turns) {
    messages.push({ role: 'user', content: turn.user });
    messages.push({ role: 'assistant', content: answerOf(turn)?.text ?? '' });
  }
  return { longmind: 'chat', model, title: c.title, messages };
}

export const fileName = (title: string, format: Format): string =>
  `${title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '') || 'conversation'}.${format}`;

export function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/plain;charset=utf-8' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
