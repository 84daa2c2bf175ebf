/** A message of a session, as it was read from its tokens. */
import { Markdown } from './Markdown.js';
import type { Said } from './model.js';

export function Saying({ said: { role, content } }: { said: Said }) {
  return (
    <div class={`saying ${role}`}>
      <span class="role">{role}</span>
      {role === 'assistant' ? <Markdown text={content} /> : <p>{content}</p>}
    </div>
  );
}
