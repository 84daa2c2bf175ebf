/** The engine in six numbers. */
import { history } from '../live/connection.js';
import type { Picture } from '../live/picture.js';
import { compact, integer, percent, rate } from '../ui/format.js';

export function Tiles({ picture }: { picture: Picture }) {
  const { cache, tokens, requests } = picture.stats;
  const lookups = cache.hits + cache.partialHits + cache.misses;
  const used = cache.blocks.active + cache.blocks.cached;
  const tiles = [
    {
      name: 'tokens/s',
      value: rate(history.generated.at(-1) ?? 0),
      more: `${compact(tokens.generated)} generated`,
    },
    { name: 'in the batch', value: compact(picture.batch.length), more: `${integer(requests.waiting)} waiting` },
    {
      name: 'cache used',
      value: percent(used, cache.blocks.total),
      more: `${integer(used)} of ${integer(cache.blocks.total)} blocks`,
    },
    {
      name: 'hits',
      value: percent(cache.hits, lookups),
      more: `${integer(cache.hits)} whole, ${integer(cache.partialHits)} part, ${integer(cache.misses)} none`,
    },
    {
      name: 'evicted',
      value: compact(cache.blocksEvicted),
      more: `blocks; ${compact(cache.tokensEvicted)} tokens`,
    },
    {
      name: 'recomputed',
      value: compact(cache.tokensRecomputed),
      more: `tokens; ${compact(cache.tokensReused)} reused${cache.tiers ? `, ${compact(cache.tokensRestored)} restored` : ''}`,
    },
  ];
  return (
    <ul class="tiles" aria-label="The engine in numbers">
      {tiles.map((t) => (
        <li key={t.name}>
          <b>{t.value}</b>
          <span>{t.name}</span>
          <small>{t.more}</small>
        </li>
      ))}
    </ul>
  );
}
