/** Calls of the server that this page came from. */
import { Store } from './store.js';

const KEY = 'longmind.key';

/** The API key lives as long as the tab. `wanted`: the server refused us without one. */
export const access = new Store<{ key: string; wanted: boolean }>({
  key: sessionStorage.getItem(KEY) ?? '',
  wanted: false,
});

export function useKey(key: string): void {
  sessionStorage.setItem(KEY, key);
  access.set({ key, wanted: false });
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Like fetch, with the key; throws an ApiError for every answer that is not one. */
export async function call(
  path: string,
  init: { method?: string; body?: unknown; signal?: AbortSignal } = {},
): Promise<Response> {
  const headers: Record<string, string> = {};
  if (access.value.key) headers.authorization = `Bearer ${access.value.key}`;
  if (init.body !== undefined) headers['content-type'] = 'application/json';
  const response = await fetch(path, {
    method: init.method ?? (init.body === undefined ? 'GET' : 'POST'),
    headers,
    body: init.body === undefined ? undefined : JSON.stringify(init.body),
    signal: init.signal ?? null,
    cache: 'no-store',
  });
  if (response.ok) return response;
  if (response.status === 401) access.patch({ wanted: true });
  const body = (await response.json().catch(() => null)) as { error?: { message?: string; code?: string } } | null;
  throw new ApiError(response.status, body?.error?.code ?? 'error', body?.error?.message ?? `HTTP ${response.status}`);
}

export const getJson = async <T>(path: string, signal?: AbortSignal): Promise<T> =>
  (await (await call(path, { signal })).json()) as T;

/** Deletes sessions at the server, those of them that it has. One whose request was cut off a moment ago may still be busy. */
export async function forgetSessions(sessions: string[]): Promise<void> {
  let left = new Set(sessions);
  for (let attempt = 0; attempt < 5 && left.size > 0; attempt++) {
    if (attempt > 0) await new Promise((resolve) => setTimeout(resolve, 400));
    const { data } = await getJson<{ data: { id: string; state: string }[] }>('/v1/sessions').catch(() => ({
      data: [],
    }));
    const there = data.filter((s) => left.has(s.id));
    left = new Set(there.filter((s) => s.state === 'active').map((s) => s.id));
    const idle = there.filter((s) => s.state !== 'active');
    await Promise.all(
      idle.map((s) =>
        call(`/v1/sessions/${encodeURIComponent(s.id)}`, { method: 'DELETE' }).catch(() => left.add(s.id)),
      ),
    );
  }
}
