/** The block map: one cell a block of the KV pool, as the cache manager reports it. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ACTIVE, CACHED, FREE, type Picture } from '../live/picture.js';
import { integer } from '../ui/format.js';
import { colourOf, labelOf } from '../ui/sessions.js';
import { useStore } from '../ui/store.js';
import { theme } from '../ui/theme.js';
import { cellAt, gridFor, shownBlocks } from './layout.js';
import { MARK_MS, type Mode, paint } from './paint.js';

const MAP_HEIGHT = 290;
/** The page often shares a small machine with the engine: it draws no more often than needed. */
const FRAME_MS = 60;
const FADING_CELLS = 3_000;
const MODES: [Mode, string][] = [
  ['session', 'Session'],
  ['state', 'State'],
  ['order', 'Next to go'],
];

export function BlockMap({ picture }: { picture: Picture }) {
  const [mode, setMode] = useState<Mode>('session');
  const [focus, setFocus] = useState(-1);
  const [width, setWidth] = useState(0);
  const canvas = useRef<HTMLCanvasElement>(null);
  useStore(theme);
  useLayoutEffect(() => {
    const c = canvas.current as HTMLCanvasElement;
    const observer = new ResizeObserver(() => setWidth(c.clientWidth));
    observer.observe(c);
    setWidth(c.clientWidth);
    return () => observer.disconnect();
  }, []);
  const shown = shownBlocks(picture.blocks, picture.high);
  const grid = gridFor(shown, Math.max(1, width), MAP_HEIGHT);
  usePainting(canvas, picture, { grid, mode, focus, width });

  const move = (e: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns }[e.key];
    if (step === undefined) return;
    e.preventDefault();
    setFocus(focus < 0 ? 0 : Math.max(0, Math.min(shown - 1, focus + step)));
  };
  return (
    <section class="card map" aria-labelledby="map-title">
      <header>
        <h2 id="map-title">KV cache</h2>
        <fieldset class="segmented" aria-label="Colour by">
          {MODES.map(([m, label]) => (
            <button key={m} type="button" aria-pressed={mode === m} onClick={() => setMode(m)}>
              {label}
            </button>
          ))}
        </fieldset>
      </header>
      <div class="scroller">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="img"
          aria-label={`Block map: ${mapWords(picture)}. Arrow keys go from block to block.`}
          aria-describedby="block-line"
          style={{ height: `${grid.height}px` }}
          onPointerMove={(e) => setFocus(cellAt(grid, e.offsetX, e.offsetY))}
          onPointerLeave={() => setFocus(-1)}
          onKeyDown={move}
          onBlur={() => setFocus(-1)}
        />
      </div>
      <p id="block-line" class="block-line" aria-live="polite" data-focus={focus}>
        {focus >= 0 ? (
          <BlockWords picture={picture} block={focus} />
        ) : (
          <Legend picture={picture} mode={mode} shown={shown} />
        )}
      </p>
    </section>
  );
}

const mapWords = ({ stats, blockLen }: Picture): string => {
  const { active, cached, free, total } = stats.cache.blocks;
  return `${total} blocks of ${blockLen} tokens, ${active} active, ${cached} cached, ${free} free`;
};

/** Paints when something changed, and while a mark fades. */
function usePainting(
  canvas: { current: HTMLCanvasElement | null },
  picture: Picture,
  view: { grid: ReturnType<typeof gridFor>; mode: Mode; focus: number; width: number },
): void {
  const marks = useRef(new Map<number, number>());
  const last = useRef<Picture | null>(null);
  useLayoutEffect(() => {
    if (last.current !== picture) noteChangedHands(marks.current, last.current, picture);
    last.current = picture;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const draw = () => {
      const c = canvas.current;
      if (!c || view.width === 0) return;
      const now = performance.now();
      for (const [block, since] of marks.current) if (now - since > MARK_MS) marks.current.delete(block);
      paint(c, { picture, ...view, marks: still ? new Map() : marks.current, now });
      // marks on a map of thousands of blocks fade with the pictures, four times a second
      if (marks.current.size > 0 && !still && view.grid.cells <= FADING_CELLS) timer = setTimeout(draw, FRAME_MS);
    };
    draw();
    return () => clearTimeout(timer);
  });
}

/** Blocks whose KV was another's one picture ago: these were evicted and used again. */
function noteChangedHands(marks: Map<number, number>, before: Picture | null, after: Picture): void {
  if (!before) return;
  const now = performance.now();
  for (let b = 0; b < Math.min(before.high, after.high); b++) {
    const [was, is] = [before.holder[b] as number, after.holder[b] as number];
    if ((before.state[b] as number) >= CACHED && was >= 0 && is >= 0 && was !== is && before.fill[b] !== 0) {
      const [old, fresh] = [before.sequences.get(was), after.sequences.get(is)];
      if (old?.sessionId !== fresh?.sessionId) marks.set(b, now);
    }
  }
}

function BlockWords({ picture, block }: { picture: Picture; block: number }) {
  const state = block < picture.high ? (picture.state[block] as number) : 0;
  if (state < FREE) return <>Block {block}: never used</>;
  if (state === FREE) return <>Block {block}: free</>;
  const holder = picture.holder[block] as number;
  const sequence = picture.sequences.get(holder);
  const rank = picture.order.indexOf(block);
  const holderWords =
    holder < 0
      ? 'held by no session; kept because its beginning may be asked for again'
      : sequence
        ? labelOf(sequence)
        : `sequence ${holder}`;
  return (
    <>
      <i
        class="swatch"
        style={{ background: holder < 0 ? 'var(--map-nobody)' : colourOf(holder, sequence?.sessionId ?? null) }}
      />
      <b>Block {block}</b>: {state === ACTIVE ? 'active' : 'cached'}, {holderWords}, {picture.fill[block]} of{' '}
      {picture.blockLen} tokens
      {rank >= 0 && `, number ${rank + 1} to be evicted`}
      {PLACES[picture.below[block] as number]}
    </>
  );
}

/** Where else a block's KV is. */
const PLACES = ['', ', also in host memory', ', also on disk', ', also in host memory and on disk'];

function Legend({ picture, mode, shown }: { picture: Picture; mode: Mode; shown: number }) {
  const { active, cached, free, total } = picture.stats.cache.blocks;
  const hidden = total - shown;
  const { tiers } = picture.stats.cache;
  return (
    <>
      <span>
        <i class={`swatch ring ${mode === 'session' ? 'hues' : 'active'}`} /> {integer(active)} active
      </span>
      <span>
        <i class={`swatch ${mode === 'session' ? 'pale-hues' : mode === 'order' ? 'heat' : 'cached'}`} />{' '}
        {integer(cached)} cached
        {mode === 'order' && ' (red goes first)'}
      </span>
      <span>
        <i class="swatch free" /> {integer(free)} free (dot: never used)
      </span>
      <span>
        <i class="swatch mark" /> just taken from another
      </span>
      {tiers && (
        <span>
          <i class="swatch saved" /> saved below
          {tiers.host.total > 0 && `: ${integer(tiers.host.used)} of ${integer(tiers.host.total)} in host memory`}
          {tiers.disk.total > 0 && `: ${integer(tiers.disk.used)} of ${integer(tiers.disk.total)} on disk`}
        </span>
      )}
      <span>
        {integer(total)} blocks × {picture.blockLen} tokens
        {hidden > 0 && `; ${integer(hidden)} never used are not drawn`}
      </span>
    </>
  );
}
