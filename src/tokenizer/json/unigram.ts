/** The unigram model of tokenizer.json (Kudo 2018): the likeliest way to cut a word into pieces (Viterbi). */
import { errors } from '../../errors.js';
import { byteTokens, type WordModel } from './bpe.js';
import { flagAt, type Json, listAt, own } from './fields.js';

/** What an unknown character costs more than the least likely piece. */
const PENALTY = 10;

/** Pieces and their log-probabilities; a piece's id is its place. @throws bad_tokenizer */
export function readPieces(json: Json): [piece: string, score: number][] {
  return listAt(json, 'vocab', 'model').map((entry, i) => {
    const [piece, score] = Array.isArray(entry) ? entry : [];
    if (typeof piece !== 'string' || typeof score !== 'number' || !Number.isFinite(score))
      throw errors.badTokenizer(`piece ${i} in tokenizer.json is malformed`);
    return [piece, score];
  });
}

/** `control`: tokens that no text becomes, whatever it spells. @throws bad_tokenizer */
export function createUnigram(json: Json, vocab: ReadonlyMap<string, number>, control: ReadonlySet<number>): WordModel {
  const pieces = readPieces(json);
  const unknown = own(json, 'unk_id') ?? null;
  if (unknown !== null && !(typeof unknown === 'number' && Number.isInteger(unknown) && pieces[unknown]))
    throw errors.badTokenizer("'model.unk_id' in tokenizer.json is no piece");
  const fallback = flagAt(json, 'byte_fallback', 'model', false) ? byteTokens(vocab) : null;
  return new Unigram(pieces, vocab, unknown as number | null, fallback, control);
}

interface Node {
  id: number;
  next: Map<string, Node>;
}

class Unigram implements WordModel {
  readonly #root: Node = { id: -1, next: new Map() };
  readonly #unknownScore: number;

  constructor(
    private readonly pieces: readonly [string, number][],
    private readonly vocab: ReadonlyMap<string, number>,
    private readonly unknown: number | null,
    private readonly fallback: Int32Array | null,
    private readonly control: ReadonlySet<number>,
  ) {
    let least = Number.POSITIVE_INFINITY;
    pieces.forEach(([piece, score], id) => {
      least = Math.min(least, score);
      if (control.has(id)) return;
      let node = this.#root;
      for (const char of piece) {
        let child = node.next.get(char);
        if (!child) {
          child = { id: -1, next: new Map() };
          node.next.set(char, child);
        }
        node = child;
      }
      // of equal pieces the last counts
      if (piece !== '') node.id = id;
    });
    this.#unknownScore = least - PENALTY;
  }

  encode(word: string, out: number[]): void {
    const chars = Array.from(word);
    for (const piece of this.#cut(chars)) {
      const id = this.vocab.get(piece);
      const bytes =
        id === undefined && this.fallback ? Array.from(Buffer.from(piece), (b) => this.fallback![b]!) : [-1];
      if (id !== undefined && !this.control.has(id)) out.push(id);
      else if (bytes.every((b) => b >= 0)) out.push(...bytes);
      else if (this.unknown !== null) out.push(this.unknown);
      else throw errors.invalidRequest(`the vocabulary has no token for '${piece.slice(0, 20)}'`);
    }
  }

  /** Neighbouring unknown characters are one piece. */
  #cut(chars: readonly string[]): string[] {
    const n = chars.length;
    const score = new Float64Array(n + 1).fill(Number.NEGATIVE_INFINITY);
    const from = new Int32Array(n + 1).fill(-1);
    const ids = new Int32Array(n + 1);
    score[0] = 0;
    for (let at = 0; at < n; at++) {
      let single = false;
      let node: Node | undefined = this.#root;
      const offer = (end: number, id: number, cost: number): void => {
        if (from[end]! >= 0 && score[at]! + cost <= score[end]!) return;
        score[end] = score[at]! + cost;
        from[end] = at;
        ids[end] = id;
      };
      for (let end = at; end < n; ) {
        node = node.next.get(chars[end]!);
        if (!node) break;
        end++;
        if (node.id < 0) continue;
        offer(end, node.id, this.pieces[node.id]![1]);
        single ||= end === at + 1;
      }
      if (!single) offer(at + 1, this.unknown ?? -1, this.#unknownScore);
    }
    const found: string[] = [];
    let open = '';
    for (let end = n; end > 0; end = from[end]!) {
      const text = chars.slice(from[end]!, end).join('');
      if (ids[end] === (this.unknown ?? -1)) open = text + open;
      else {
        if (open !== '') found.push(open);
        open = '';
        found.push(text);
      }
    }
    if (open !== '') found.push(open);
    return found.reverse();
  }
}
