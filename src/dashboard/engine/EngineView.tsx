/** The engine, live. */
import { live } from '../live/connection.js';
import { PressureCard } from '../pressure/PressureCard.js';
import { useStore } from '../ui/store.js';
import { Batch } from './Batch.js';
import { BlockMap } from './BlockMap.js';
import { Charts } from './Charts.js';
import { Feed } from './Feed.js';
import { Memory } from './Memory.js';
import { Order } from './Order.js';
import { Tiles } from './Tiles.js';

export function EngineView() {
  const { picture, about, status, problem } = useStore(live);
  return (
    <section class="engine" aria-label="Engine">
      {status !== 'live' && (
        <p class="banner" role="status">
          {status === 'connecting'
            ? 'Connecting to the engine…'
            : `Not live: ${problem ?? 'the connection broke'}. Trying again…`}
        </p>
      )}
      {status === 'live' && problem && <p class="banner">{problem}</p>}
      {picture && about && (
        <>
          <Tiles picture={picture} />
          <PressureCard about={about} picture={picture} />
          <BlockMap picture={picture} />
          <div class="pair">
            <Order picture={picture} />
            <Batch picture={picture} />
          </div>
          <Feed />
          <div class="pair">
            <Charts />
          </div>
          <Memory about={about} />
        </>
      )}
    </section>
  );
}
