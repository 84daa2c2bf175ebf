/** Values that a caller gives to the chat template beside the messages. */
import { errors } from '../errors.js';

const MAX_NAMES = 64;
const MAX_CHARS = 65_536;
const MAX_DEPTH = 16;
const NAME = /^[A-Za-z][A-Za-z0-9_]{0,63}$/;
/** What the engine gives itself; `strftime_now` and its like are the template's functions. */
const TAKEN = new Set([
  ...['messages', 'tools', 'add_generation_prompt', 'bos_token', 'eos_token'],
  ...['raise_exception', 'range', 'strftime_now', 'true', 'false', 'none', 'True', 'False', 'None'],
]);

/** @throws LongmindError 400 that names what cannot be given to a template */
export function checkTemplateValues(values: unknown): void {
  const refuse = (why: string) => errors.invalidRequest(`'chat_template_kwargs' ${why}`, 'chat_template_kwargs');
  if (typeof values !== 'object' || values === null || Array.isArray(values))
    throw refuse('must be an object of names and values');
  const names = Object.keys(values);
  if (names.length > MAX_NAMES) throw refuse(`has ${names.length} names; at most ${MAX_NAMES} are taken`);
  const bad = names.find((n) => !NAME.test(n));
  if (bad !== undefined) throw refuse(`has a name that no template uses: '${bad.slice(0, 80)}'`);
  const taken = names.find((n) => TAKEN.has(n));
  if (taken !== undefined) throw refuse(`may not set '${taken}'`);
  const chars = sizeOf(values, 0);
  if (chars === null) throw refuse(`must hold JSON values of at most ${MAX_DEPTH} levels`);
  if (chars > MAX_CHARS) throw refuse(`is larger than ${MAX_CHARS} characters`);
}

/** Characters, roughly; null: it is no JSON, or too deep. */
function sizeOf(value: unknown, depth: number): number | null {
  if (depth > MAX_DEPTH) return null;
  if (typeof value === 'string') return value.length + 2;
  if (value === null || typeof value === 'boolean' || Number.isFinite(value)) return 8;
  if (typeof value !== 'object') return null;
  let chars = 2;
  for (const [key, child] of Object.entries(value)) {
    const more = sizeOf(child, depth + 1);
    if (more === null) return null;
    chars += key.length + more;
    if (chars > MAX_CHARS) break;
  }
  return chars;
}
