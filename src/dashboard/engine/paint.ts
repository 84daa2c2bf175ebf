/** Draws the block map. */
import { ACTIVE, CACHED, FREE, type Picture } from '../live/picture.js';
import { colourOf } from '../ui/sessions.js';
import { colour, theme } from '../ui/theme.js';
import type { Grid } from './layout.js';

export type Mode = 'session' | 'state' | 'order';

/** Milliseconds for which a block that changed hands is marked. */
export const MARK_MS = 1_400;

interface Palette {
  free: string;
  never: string;
  ring: string;
  mark: string;
  active: string;
  cached: string;
  nobody: string;
  focus: string;
  saved: string;
}

let palette: { of: string; colours: Palette } | null = null;

function colours(): Palette {
  if (palette?.of !== theme.value) {
    const c: Palette = {
      free: colour('--map-free'),
      never: colour('--map-never'),
      ring: colour('--map-ring'),
      mark: colour('--map-mark'),
      active: colour('--map-active'),
      cached: colour('--map-cached'),
      nobody: colour('--map-nobody'),
      focus: colour('--accent'),
      saved: colour('--map-saved'),
    };
    palette = { of: theme.value, colours: c };
  }
  return palette.colours;
}

interface Paint {
  picture: Picture;
  grid: Grid;
  mode: Mode;
  /** Block under the pointer or the keyboard, or -1. */
  focus: number;
  /** Block → when it changed hands. */
  marks: ReadonlyMap<number, number>;
  now: number;
}

export function paint(canvas: HTMLCanvasElement, p: Paint): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const scale = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(p.grid.height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(p.grid.height * scale);
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, p.grid.height);
  const sheet = new Sheet(context, p.grid);
  const once: Once = { rank: p.mode === 'order' ? ranks(p.picture) : null, fills: new Map() };
  for (let b = 0; b < p.grid.cells; b++) cell(sheet, p, b, once);
  sheet.draw();
  outlines(sheet, p);
}

/** Worked out once a painting, not once a cell. */
interface Once {
  rank: Map<number, number> | null;
  /** By holder and strength. */
  fills: Map<number, string>;
}

function ranks(picture: Picture): Map<number, number> {
  const last = Math.max(1, picture.order.length - 1);
  return new Map(Array.from(picture.order, (block, i): [number, number] => [block, i / last]));
}

/** Boxes by colour and layer: setting a colour costs more than drawing a box. */
class Sheet {
  readonly #layers: Map<string, number[]>[] = [new Map(), new Map(), new Map()];

  constructor(
    readonly context: CanvasRenderingContext2D,
    readonly grid: Grid,
  ) {}

  add(layer: 0 | 1 | 2, style: string, ...box: [x: number, y: number, w: number, h: number]): void {
    const boxes = this.#layers[layer] as Map<string, number[]>;
    const list = boxes.get(style);
    if (list) list.push(...box);
    else boxes.set(style, box);
  }

  draw(): void {
    const { context, grid } = this;
    const round = grid.pitch >= 12;
    for (const [style, list, marks] of this.#layers.flatMap((l, i) =>
      [...l].map(([s, b]) => [s, b, i === 2] as const),
    )) {
      context.fillStyle = style;
      if (round) context.beginPath();
      for (let i = 0; i < list.length; i += 4) {
        const [x, y, w, h] = list.slice(i, i + 4) as [number, number, number, number];
        if (round) context.roundRect(x, y, w, h, marks ? h / 2 : Math.min(3, h / 2));
        else context.fillRect(x, y, w, h);
      }
      if (round) context.fill();
    }
  }

  outline(block: number, style: string, width: number): void {
    const { context, grid } = this;
    const [x, y] = placeOf(grid, block);
    const size = grid.pitch - grid.gap - width;
    context.strokeStyle = style;
    context.lineWidth = width;
    context.strokeRect(x + width / 2, y + width / 2, size, size);
  }
}

const placeOf = (grid: Grid, block: number): [number, number] => [
  (block % grid.columns) * grid.pitch,
  Math.floor(block / grid.columns) * grid.pitch,
];

/** Steps in which a mark fades: each is a colour of its own. */
const FADES = 8;

function cell(sheet: Sheet, { picture, grid, mode, marks, now }: Paint, block: number, once: Once): void {
  const c = colours();
  const size = grid.pitch - grid.gap;
  const [x, y] = placeOf(grid, block);
  const state = block < picture.high ? (picture.state[block] as number) : 0;
  if (state < FREE) {
    const dot = Math.max(1.5, size * 0.18);
    sheet.add(0, c.never, x + (size - dot) / 2, y + (size - dot) / 2, dot, dot);
    return;
  }
  const share = Math.max(0.12, Math.min(1, (picture.fill[block] as number) / picture.blockLen));
  const filled = state >= CACHED ? share * size : 0;
  if (filled < size) sheet.add(0, c.free, x, y, size, size);
  if (filled > 0) sheet.add(1, fillOf(picture, block, state, mode, once, c), x, y + size - filled, size, filled);
  if (picture.below[block]) {
    // a notch: the KV has a copy in a place below, and may go from here at no cost
    const notch = Math.max(1.5, size * 0.28);
    sheet.add(2, c.saved, x + size - notch, y, notch, notch);
  }
  const since = marks.get(block);
  if (since === undefined || now - since >= MARK_MS) return;
  const left = Math.ceil(FADES * (1 - (now - since) / MARK_MS)) / FADES;
  // a dot, so that the block keeps its session's colour
  const dot = Math.max(2, size * 0.42);
  const style = `color-mix(in srgb, ${c.mark} ${Math.round(100 * left)}%, transparent)`;
  sheet.add(2, style, x + (size - dot) / 2, y + (size - dot) / 2, dot, dot);
}

/** Rings around what is active, and around what the pointer or the keyboard is at. */
function outlines(sheet: Sheet, { picture, grid, focus }: Paint): void {
  const c = colours();
  const holder = focus >= 0 && focus < picture.high ? (picture.holder[focus] as number) : -1;
  for (let b = 0; b < Math.min(picture.high, grid.cells); b++) {
    if (picture.state[b] === ACTIVE) sheet.outline(b, c.ring, grid.pitch >= 12 ? 2 : 1);
    else if (holder >= 0 && picture.holder[b] === holder) sheet.outline(b, c.focus, 1);
  }
  if (focus >= 0) sheet.outline(focus, c.focus, 2);
}

function fillOf(picture: Picture, block: number, state: number, mode: Mode, once: Once, c: Palette): string {
  if (mode === 'state') return state === ACTIVE ? c.active : c.cached;
  if (mode === 'order') {
    if (state === ACTIVE) return c.active;
    const r = once.rank?.get(block);
    // red goes first, blue last; beyond what the server lists, pale
    return r === undefined ? c.nobody : `oklch(${theme.value === 'dark' ? 0.66 : 0.68} 0.15 ${25 + r * 230})`;
  }
  const holder = picture.holder[block] as number;
  if (holder < 0) return c.nobody;
  const key = 2 * holder + (state === ACTIVE ? 1 : 0);
  let fill = once.fills.get(key);
  if (fill === undefined) {
    fill = colourOf(holder, picture.sequences.get(holder)?.sessionId ?? null, state === ACTIVE ? 'full' : 'pale');
    once.fills.set(key, fill);
  }
  return fill;
}
