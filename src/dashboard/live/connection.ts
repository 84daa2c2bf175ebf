/** Follows the engine's event stream; comes back by itself when it breaks. */
import { ApiError, access, call, getJson } from '../ui/api.js';
import { eventsOf } from '../ui/sse.js';
import { Store } from '../ui/store.js';
import type { EngineAbout, LiveMessage } from '../wire.js';
import { type Happening, happenings, tell } from './happenings.js';
import { type History, Rates } from './history.js';
import { applyMessage, type Picture } from './picture.js';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** A stream that says nothing for so long is taken for dead. The server sends something four times a second. */
const SILENCE_MS = 20_000;
const KEPT_HAPPENINGS = 200;

interface Live {
  status: 'connecting' | 'live' | 'lost';
  /** Why it is lost, or what the engine complains of. */
  problem: string | null;
  about: EngineAbout | null;
  picture: Picture | null;
  before: Picture | null;
  /** Newest first. */
  happenings: Happening[];
}

export const live = new Store<Live>({
  status: 'connecting',
  problem: null,
  about: null,
  picture: null,
  before: null,
  happenings: [],
});

const rates = new Rates();
/** Grows in place; `live` tells when. */
export const history: History = rates.history;
let nextId = 1;

export function followEngine(): () => void {
  const stop = new AbortController();
  void loop(stop.signal);
  return () => stop.abort();
}

async function loop(signal: AbortSignal): Promise<void> {
  let pause = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    await untilShown(signal);
    try {
      await stream(signal, () => {
        pause = FIRST_PAUSE_MS;
      });
      live.patch({ status: 'lost', problem: 'the server closed the stream' });
    } catch (error) {
      if (signal.aborted) return;
      if (document.hidden) continue;
      live.patch({
        status: 'lost',
        problem: error instanceof ApiError ? error.message : 'the server cannot be reached',
      });
    }
    await waitForRetry(pause, signal);
    pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
  }
}

async function stream(signal: AbortSignal, onLive: () => void): Promise<void> {
  const about = await getJson<EngineAbout>('/v1/engine', signal);
  live.patch({ about });
  const silence = new AbortController();
  const onStop = () => silence.abort();
  signal.addEventListener('abort', onStop, { once: true });
  let timer = setTimeout(onStop, SILENCE_MS);
  // a page that nobody sees asks nothing of the engine
  const onHide = () => document.hidden && onStop();
  document.addEventListener('visibilitychange', onHide);
  try {
    const response = await call('/v1/engine/events', { signal: silence.signal });
    for await (const { event, data } of eventsOf(response)) {
      clearTimeout(timer);
      timer = setTimeout(onStop, SILENCE_MS);
      onLive();
      if (event === 'engine') take(JSON.parse(data) as LiveMessage);
      else if (event === 'tick') tick((JSON.parse(data) as { at: number }).at);
      else if (event === 'problem') live.patch({ problem: (JSON.parse(data) as { message: string }).message });
    }
  } finally {
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', onHide);
    signal.removeEventListener('abort', onStop);
  }
}

function take(message: LiveMessage): void {
  const { picture: before, happenings: old } = live.value;
  const picture = applyMessage(before, message);
  if (!picture) return;
  // after a break the counters may have moved a long way: what is told then spans the gap, and says so by its time
  const fresh = before ? happenings(before, picture, nextId) : [];
  nextId += fresh.length;
  rates.add(picture, picture.at);
  live.patch({
    status: 'live',
    problem: null,
    picture,
    before,
    happenings: fresh.length > 0 ? tell(old, fresh, KEPT_HAPPENINGS) : old,
  });
}

/** Nothing happened; time went on. */
function tick(at: number): void {
  const { picture } = live.value;
  const added = picture !== null && rates.add(picture, at);
  if (live.value.status !== 'live' || live.value.problem || added)
    live.set({ ...live.value, status: 'live', problem: null });
}

async function untilShown(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return;
  await new Promise<void>((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look, { once: true });
  });
}

/** Ends early when a key has been given. */
function waitForRetry(pause: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      forget();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, pause);
    const forget = access.follow(() => {
      if (!access.value.wanted) done();
    });
    signal.addEventListener('abort', done, { once: true });
  });
}
