/** Puts a text on the clipboard, and says that it is there. */
import { useState } from 'preact/hooks';
import { Icon } from './Icon.js';

const SAID_MS = 1500;

export function CopyButton({ text, label = 'Copy', quiet = false }: { text: string; label?: string; quiet?: boolean }) {
  const [copied, setCopied] = useState(false);
  const copy = () =>
    put(text).then(
      () => {
        setCopied(true);
        setTimeout(() => setCopied(false), SAID_MS);
      },
      () => {},
    );
  return (
    <button type="button" class="quiet small" aria-label={label} onClick={copy}>
      {quiet && <Icon name="copy" />} <span>{copied ? 'Copied' : 'Copy'}</span>
    </button>
  );
}

/** Over plain HTTP from another machine a page has no clipboard; the old way works there. */
async function put(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement('textarea');
  field.value = text;
  field.readOnly = true;
  document.body.append(field);
  field.select();
  const done = document.execCommand('copy');
  field.remove();
  if (!done) throw new Error('nothing was copied');
}
