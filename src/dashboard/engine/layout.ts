/** Where the cells of the block map lie. All in CSS pixels. */
export interface Grid {
  columns: number;
  rows: number;
  /** From one cell to the next; the cell itself is `gap` smaller. */
  pitch: number;
  gap: number;
  cells: number;
  height: number;
}

const LARGEST = 38;
const SMALLEST = 6;
/** Cells shown at least, so that a fresh engine shows what is empty. */
const AT_LEAST = 128;

/** Blocks worth a cell: those that were used, and some of those that never were. */
export const shownBlocks = (blocks: number, high: number): number =>
  Math.min(blocks, Math.max(AT_LEAST, Math.ceil((high * 1.25) / 64) * 64));

/** The largest cells with which everything fits into `height`; smaller than SMALLEST they do not get: then the map is taller. */
export function gridFor(cells: number, width: number, height: number): Grid {
  let pitch = LARGEST;
  const columnsAt = (p: number): number => Math.max(1, Math.floor(width / p));
  while (pitch > SMALLEST && Math.ceil(cells / columnsAt(pitch)) * pitch > height) pitch--;
  const columns = columnsAt(pitch);
  const rows = Math.ceil(cells / columns);
  return {
    columns,
    rows,
    pitch,
    gap: pitch >= 30 ? 4 : pitch >= 14 ? 3 : pitch >= 9 ? 2 : 1,
    cells,
    height: rows * pitch,
  };
}

/** The cell under a point, or -1. */
export function cellAt(grid: Grid, x: number, y: number): number {
  const column = Math.floor(x / grid.pitch);
  if (column < 0 || column >= grid.columns || y < 0) return -1;
  const cell = Math.floor(y / grid.pitch) * grid.columns + column;
  return cell < grid.cells ? cell : -1;
}
