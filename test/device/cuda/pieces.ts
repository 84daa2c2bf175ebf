import { type Row, type Runner, sequence } from '../support.js';

/** Logits of the last token of a text, computed in one step or in pieces, with so many other rows beside it. */
export function logitsOf(
  runner: Runner,
  text: number[],
  pieces: number[],
  beside: number,
  vocab: number,
): Float32Array {
  let position = 0;
  let out: Float32Array[] = [];
  for (const n of pieces) {
    const rows: Row[] = [{ slot: 0, position, tokens: text.slice(position, position + n) }];
    for (let i = 1; i <= beside; i++)
      rows.push({ slot: i, position: 0, tokens: sequence(1 + ((i * 7) % 5), i, vocab) });
    out = runner.logits(rows);
    position += n;
  }
  return out[0]!;
}
