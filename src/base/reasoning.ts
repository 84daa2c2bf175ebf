/** Thinking that a model writes before its answer: how it is marked, and how it comes apart from the answer as it streams. */
import type { ReasoningFormat, ReasoningStart } from '../types.js';

/** Families by their marks; the first whose marks a template has is taken. */
export const REASONING_FORMATS: readonly ReasoningFormat[] = [
  { open: '<think>', close: '</think>', answer: { open: '<response>', close: '</response>' } }, // Granite 3.3
  { open: '<think>', close: '</think>' }, // DeepSeek-R1, Qwen3, SmolLM3, Nemotron, GLM 4.5 …
  { open: '[THINK]', close: '[/THINK]' }, // Magistral
  { open: '<seed:think>', close: '</seed:think>' }, // Seed-OSS
  { open: '<|START_THINKING|>', close: '<|END_THINKING|>' }, // Command R7B and A
  { open: '<thought>', close: '</thought>' }, // EXAONE Deep
  { open: 'Here is my thought process:', close: 'Here is my response:' }, // Granite 3.2
];

export const reasoningMarks = ({ open, close, answer }: ReasoningFormat): string[] => [
  ...[open, close],
  ...(answer ? [answer.open, answer.close] : []),
];

/** No end of a prompt that says more is longer. */
export const PROMPT_TAIL = 32;

/** `tail`: the end of the prompt's text, special tokens spelled out. */
export function reasoningStart({ open, close }: ReasoningFormat, tail: string): ReasoningStart {
  const text = tail.trimEnd();
  return text.endsWith(open) ? 'inside' : text.endsWith(close) ? 'after' : 'before';
}

export interface Parts {
  reasoning: string;
  text: string;
}

type Phase =
  /** Nothing but space, or the beginning of a mark. */
  | 'before'
  /** In the thinking, nothing said yet. */
  | 'opened'
  | 'inside'
  /** Past the thinking, nothing said yet. */
  | 'closed'
  | 'answer'
  /** In an answer that has a closing mark of its own. */
  | 'wrapped';

/**
 * Feed it the text of an answer with special tokens that are marks spelled out, cut anywhere. Space around the thinking is left out;
 * thinking that is never closed is thinking to the end.
 */
export class ReasoningSplitter {
  #phase: Phase;
  /** What may turn out to be a mark, and space that may turn out to be the last. */
  #held = '';
  #began = false;

  constructor(
    private readonly format: ReasoningFormat,
    start: ReasoningStart,
  ) {
    // after a thinking that the prompt closed, models may still begin one
    this.#phase = start === 'inside' ? 'opened' : 'before';
    this.#began = start === 'inside';
  }

  /** There is a thinking, or was. */
  get began(): boolean {
    return this.#began;
  }

  /** What came last belongs to the thinking, or may do so. */
  get thinking(): boolean {
    return this.#phase === 'opened' || this.#phase === 'inside';
  }

  push(text: string): Parts {
    const out = { reasoning: '', text: '' };
    this.#held += text;
    while (this.#step(out));
    return out;
  }

  /** A token came that is neither text nor mark: no thinking begins after it. */
  interrupt(): Parts {
    return this.#phase === 'before' || this.#phase === 'closed' ? this.#settle() : { reasoning: '', text: '' };
  }

  /** Nothing more will come: what was held back. */
  end(): Parts {
    const held = this.#held;
    this.#held = '';
    if (this.thinking) return { reasoning: held.trimEnd(), text: '' };
    return { reasoning: '', text: this.#phase === 'closed' ? held.trimStart() : held };
  }

  #settle(): Parts {
    const text = this.#phase === 'closed' ? this.#held.trimStart() : this.#held;
    this.#held = '';
    this.#phase = 'answer';
    return { reasoning: '', text };
  }

  /** Goes on to the next phase if the held text is enough for that; false: more text is needed. */
  #step(out: Parts): boolean {
    const { open, close, answer } = this.format;
    switch (this.#phase) {
      case 'before':
        return this.#begin(open, 'opened', out, false);
      case 'opened':
        this.#held = this.#held.trimStart();
        // models that were taught to open it do so again where the prompt did
        if (this.#held.startsWith(open)) this.#held = this.#held.slice(open.length).trimStart();
        if (open.startsWith(this.#held)) return false;
        this.#phase = 'inside';
        return true;
      case 'inside': {
        const closed = this.#upTo(close, out, 'reasoning');
        if (closed) this.#phase = 'closed';
        return closed;
      }
      case 'closed':
        return this.#begin(answer?.open ?? null, 'wrapped', out, true);
      case 'wrapped': {
        const closed = this.#upTo(answer!.close, out, 'text');
        if (closed) this.#phase = 'answer';
        return closed;
      }
      default:
        out.text += this.#held;
        this.#held = '';
        return false;
    }
  }

  /** At the beginning of something: a mark, after space, or else the answer. */
  #begin(mark: string | null, next: Phase, out: Parts, trim: boolean): boolean {
    const body = this.#held.trimStart();
    if (body === '') return false;
    if (mark !== null && body.startsWith(mark)) {
      this.#held = body.slice(mark.length);
      this.#phase = next;
      this.#began = true;
      return true;
    }
    if (mark?.startsWith(body)) return false;
    out.text += trim ? body : this.#held;
    this.#held = '';
    this.#phase = 'answer';
    return false;
  }

  /** Text up to a mark; what may be its beginning, and space before it, waits. True: the mark was there. */
  #upTo(mark: string, out: Parts, part: keyof Parts): boolean {
    const at = this.#held.indexOf(mark);
    if (at >= 0) {
      out[part] += this.#held.slice(0, at).trimEnd();
      this.#held = this.#held.slice(at + mark.length);
      return true;
    }
    let keep = this.#held.length;
    for (let n = Math.min(mark.length - 1, this.#held.length); n >= 0; n--) {
      if (!this.#held.endsWith(mark.slice(0, n))) continue;
      keep = this.#held.slice(0, this.#held.length - n).trimEnd().length;
      break;
    }
    out[part] += this.#held.slice(0, keep);
    this.#held = this.#held.slice(keep);
    return false;
  }
}
