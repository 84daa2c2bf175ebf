/** Asks for an API key where the server wants one. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { access, useKey as takeKey } from './api.js';
import { useStore } from './store.js';

export function KeyDialog() {
  const { wanted } = useStore(access);
  const dialog = useRef<HTMLDialogElement>(null);
  const [key, setKey] = useState('');
  useEffect(() => {
    const d = dialog.current;
    if (wanted && !d?.open) d?.showModal();
    if (!wanted && d?.open) d.close();
  }, [wanted]);
  return (
    <dialog ref={dialog} aria-labelledby="key-title">
      <form
        method="dialog"
        onSubmit={(e) => {
          e.preventDefault();
          if (key.trim()) takeKey(key.trim());
        }}
      >
        <h2 id="key-title">This server wants an API key</h2>
        <p class="note">It is kept until this tab is closed.</p>
        <input
          type="password"
          aria-label="API key"
          autocomplete="off"
          value={key}
          onInput={(e) => setKey(e.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={!key.trim()}>
          Go on
        </button>
      </form>
    </dialog>
  );
}
