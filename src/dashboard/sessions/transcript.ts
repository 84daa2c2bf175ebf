/** What was said in a session, from its tokens spelled out with their special tokens. Pure. */
import type { Said } from '../chat/model.js';

/** How templates mark a message: ChatML, Llama 3, Zephyr. */
const STYLES = [
  /<\|im_start\|>(\w+)\n([\s\S]*?)(?:<\|im_end\|>\s*|$)/g,
  /<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*([\s\S]*?)(?:<\|eot_id\|>|<\|eom_id\|>|$)/g,
  /<\|(system|user|assistant)\|>\n([\s\S]*?)(?:<\/s>\s*|<\|end\|>\s*|$)/g,
];
const ROLES: Record<string, Said['role']> = { ipython: 'tool', developer: 'system' };

/** A text in none of these styles stays one piece. */
export function transcript(text: string): Said[] {
  for (const style of STYLES) {
    const found = [...text.matchAll(style)];
    if (found.length === 0) continue;
    return found
      .map(([, role, content]) => ({ role: roleOf(role as string), content: (content as string).trim() }))
      .filter((m) => m.content !== '');
  }
  return text.trim() === '' ? [] : [{ role: 'text', content: text }];
}

const roleOf = (name: string): Said['role'] =>
  ROLES[name] ?? (['system', 'user', 'assistant', 'tool'].includes(name) ? (name as Said['role']) : 'text');
