/** The button that puts the cache under pressure, and a line that explains what is being seen. */
import { useRef } from 'preact/hooks';
import type { Picture } from '../live/picture.js';
import { integer, ms } from '../ui/format.js';
import { Icon } from '../ui/Icon.js';
import { useStore } from '../ui/store.js';
import type { EngineAbout } from '../wire.js';
import { type Plan, planFor } from './plan.js';
import { clearPressure, isRunning, type Pressure, pressure, startPressure, stopPressure } from './run.js';

export function PressureCard({ about, picture }: { about: EngineAbout; picture: Picture }) {
  const state = useStore(pressure);
  const begun = useRef(picture.stats.cache);
  const busy = isRunning(state);
  const { kvBlocks, blockLen } = about.memory;
  const plan = planFor({ cache: kvBlocks * blockLen, session: about.sessionLen });
  const since = {
    evicted: picture.stats.cache.blocksEvicted - begun.current.blocksEvicted,
    recomputed: picture.stats.cache.tokensRecomputed - begun.current.tokensRecomputed,
  };
  return (
    <section class="card pressure" data-phase={state.phase} aria-labelledby="pressure-title">
      <div>
        <h2 id="pressure-title">See it forget, and remember</h2>
        <p role="status">
          <Line state={state} plan={plan} capacity={kvBlocks * blockLen} since={since} />
        </p>
      </div>
      <div class="buttons">
        {state.phase !== 'idle' && !busy && (
          <button type="button" class="quiet" onClick={() => void clearPressure()}>
            Clear
          </button>
        )}
        {busy ? (
          <button type="button" class="primary" onClick={stopPressure}>
            <Icon name="stop" /> Stop
          </button>
        ) : (
          <button
            type="button"
            class="primary"
            onClick={() => {
              begun.current = picture.stats.cache;
              void startPressure(plan);
            }}
          >
            <Icon name="bolt" /> Pressure
          </button>
        )}
      </div>
      {state.plan && (
        <progress max={state.plan.sessions + 4} value={state.answered} aria-label="Scripted conversations answered" />
      )}
    </section>
  );
}

interface LineProps {
  state: Pressure;
  plan: Plan;
  capacity: number;
  since: { evicted: number; recomputed: number };
}

function Line({ state, plan, capacity, since }: LineProps) {
  const { phase, witness } = state;
  switch (phase) {
    case 'idle':
      return plan.fills ? (
        <>
          {plan.sessions} scripted conversations of about {integer(plan.tokens)} tokens: more than the{' '}
          {integer(capacity)} that the cache holds. The first is asked again at the end.
        </>
      ) : (
        <>
          This cache holds {integer(capacity)} tokens, too many to fill in a minute: {plan.sessions} conversations will
          show blocks being taken and reused, but none evicted. Start the server with{' '}
          <code>--cache-max-entry-count 48</code> to see that, too.
        </>
      );
    case 'first':
      return (
        <>
          A first conversation is asked. Its blocks are active (ringed) while it runs, then cached. Remember its colour.
        </>
      );
    case 'filling':
      return since.evicted > 0 ? (
        <>
          The cache is full: {integer(since.evicted)} blocks of the conversations used longest ago went to newer ones,
          tail first. Their token ids stay.
        </>
      ) : (
        <>More conversations take free blocks. When none is left, the one used longest ago has to give way.</>
      );
    case 'return':
      return (
        <>
          Back to the first ones. What is gone is computed again from the token ids: {integer(since.recomputed)} tokens
          so far. The client notices nothing but time.
        </>
      );
    case 'done':
      return <Result witness={witness} since={since} />;
    case 'stopped':
      return witness ? (
        <Result witness={witness} since={since} />
      ) : (
        <>Stopped. What was computed so far stays cached.</>
      );
    case 'failed':
      return <span class="problem">It failed: {state.problem}</span>;
  }
}

function Result({ witness, since }: { witness: Pressure['witness']; since: LineProps['since'] }) {
  if (!witness) return <>Done.</>;
  const gone = witness.prompt - witness.cachedAfter;
  return (
    <span data-same={witness.same} data-cached={witness.cachedAfter} data-prompt={witness.prompt}>
      {integer(since.evicted)} blocks were evicted, {integer(since.recomputed)} tokens computed again. Asked a second
      time, the first conversation had {integer(witness.cachedAfter)} of its {integer(witness.prompt)} tokens cached
      {gone > 1 ? ` and ${integer(gone)} were decoded again` : ''}; its answer is{' '}
      <b class={witness.same ? 'good' : 'bad'}>{witness.same ? 'the same, word for word' : 'different'}</b> (first token{' '}
      {ms(witness.ttftBefore)}, then {ms(witness.ttftAfter)}).
    </span>
  );
}
