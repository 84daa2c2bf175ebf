/** Something of the server that is asked for again and again while a component is shown and the page is seen. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, access, getJson } from './api.js';

interface Polled<T> {
  value: T | null;
  problem: string | null;
  /** Asks at once. */
  again: () => void;
}

export function usePolled<T>(path: string, everyMs: number): Polled<T> {
  const [state, setState] = useState<Omit<Polled<T>, 'again'>>({ value: null, problem: null });
  const ask = useRef<() => void>(() => {});
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async (): Promise<void> => {
      clearTimeout(timer);
      if (!document.hidden) {
        try {
          const value = await getJson<T>(path, stop.signal);
          setState({ value, problem: null });
        } catch (error) {
          if (stop.signal.aborted) return;
          const problem = error instanceof ApiError ? error.message : 'the server cannot be reached';
          setState((s) => ({ ...s, problem }));
        }
      }
      if (!stop.signal.aborted) timer = setTimeout(look, everyMs);
    };
    ask.current = () => void look();
    void look();
    // when a key has been given
    const forget = access.follow(() => {
      if (!access.value.wanted) void look();
    });
    return () => {
      stop.abort();
      clearTimeout(timer);
      forget();
    };
  }, [path, everyMs]);
  return { ...state, again: () => ask.current() };
}
