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
    };
    palette = { of: theme.value, colours: c };
  }
  return palette.colours;
}

export interface Paint {
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
  const rank = p.mode === 'order' ? ranks(p.picture) : null;
  const focused = p.focus >= 0 && p.focus < p.picture.high ? p.picture.holder[p.focus] : -1;
  for (let b = 0; b < p.grid.cells; b++) cell(context, p, b, rank, focused ?? -1);
}

function ranks(picture: Picture): Map<number, number> {
  return new Map(
    Array.from(picture.order, (block, i): [number, number] => [block, i / Math.max(1, picture.order.length - 1)]),
  );
}

function cell(
  context: CanvasRenderingContext2D,
  { picture, grid, mode, focus, marks, now }: Paint,
  block: number,
  rank: Map<number, number> | null,
  focusedHolder: number,
): void {
  const c = colours();
  const size = grid.pitch - grid.gap;
  const x = (block % grid.columns) * grid.pitch;
  const y = Math.floor(block / grid.columns) * grid.pitch;
  const state = block < picture.high ? (picture.state[block] as number) : 0;
  if (state < FREE) {
    const dot = Math.max(1.5, size * 0.18);
    context.fillStyle = c.never;
    context.fillRect(x + (size - dot) / 2, y + (size - dot) / 2, dot, dot);
  } else {
    context.fillStyle = c.free;
    box(context, x, y, size, size, grid.pitch);
    if (state >= CACHED) {
      const filled = Math.max(0.12, Math.min(1, (picture.fill[block] as number) / picture.blockLen)) * size;
      context.fillStyle = fillOf(picture, block, state, mode, rank, c);
      box(context, x, y + size - filled, size, filled, grid.pitch);
    }
    if (state === ACTIVE) stroke(context, x, y, size, c.ring, grid.pitch >= 12 ? 2 : 1);
    else if (focusedHolder >= 0 && picture.holder[block] === focusedHolder) stroke(context, x, y, size, c.focus, 1);
  }
  const since = marks.get(block);
  if (since !== undefined && now - since < MARK_MS) {
    context.globalAlpha = 0.85 * (1 - (now - since) / MARK_MS);
    context.fillStyle = c.mark;
    box(context, x, y, size, size, grid.pitch);
    context.globalAlpha = 1;
  }
  if (block === focus) stroke(context, x, y, size, c.focus, 2);
}

function fillOf(
  picture: Picture,
  block: number,
  state: number,
  mode: Mode,
  rank: Map<number, number> | null,
  c: Palette,
): string {
  if (mode === 'state') return state === ACTIVE ? c.active : c.cached;
  if (mode === 'order') {
    if (state === ACTIVE) return c.active;
    const r = rank?.get(block);
    // red goes first, blue last; beyond what the server lists, pale
    return r === undefined ? c.nobody : `oklch(${theme.value === 'dark' ? 0.66 : 0.68} 0.15 ${25 + r * 230})`;
  }
  const holder = picture.holder[block] as number;
  if (holder < 0) return c.nobody;
  const sequence = picture.sequences.get(holder);
  return colourOf(holder, sequence?.sessionId ?? null, state === ACTIVE ? 'full' : 'pale');
}

function box(context: CanvasRenderingContext2D, x: number, y: number, w: number, h: number, pitch: number): void {
  if (pitch < 12) {
    context.fillRect(x, y, w, h);
    return;
  }
  context.beginPath();
  context.roundRect(x, y, w, h, Math.min(3, h / 2));
  context.fill();
}

function stroke(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  size: number,
  style: string,
  width: number,
): void {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.strokeRect(x + width / 2, y + width / 2, size - width, size - width);
}
