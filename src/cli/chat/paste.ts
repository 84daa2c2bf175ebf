/**
 * Bracketed paste: a terminal that is asked to marks what was pasted, so that its line breaks are not taken for the Enter
 * key. Several lines, or very many characters, stand in the line of input as a short mark until the message is sent.
 */
import { PassThrough, type Readable } from 'node:stream';

export const PASTE_ON = '\x1b[?2004h';
export const PASTE_OFF = '\x1b[?2004l';
const BEGIN = '\x1b[200~';
const END = '\x1b[201~';
/** A terminal sends a key's bytes at once; what is cut off for longer was the Escape key. */
const CUT_MS = 30;
/** The line editor takes time with the square of the length of a line. */
const LONGEST = 500;

/** Takes the marks out of what a terminal sends. */
export class Pastes {
  readonly #kept = new Map<string, string>();
  #pasting: string | null = null;
  #cut = '';

  /** What the line editor gets. */
  feed(text: string): string {
    let rest = this.#cut + text;
    this.#cut = '';
    let out = '';
    for (;;) {
      const mark = this.#pasting === null ? BEGIN : END;
      const at = rest.indexOf(mark);
      const upTo = at < 0 ? rest.length - cutOff(rest, mark) : at;
      if (this.#pasting === null) out += rest.slice(0, upTo);
      else this.#pasting += rest.slice(0, upTo);
      if (at < 0) {
        this.#cut = rest.slice(upTo);
        return out;
      }
      rest = rest.slice(at + mark.length);
      if (this.#pasting === null) this.#pasting = '';
      else {
        out += this.#markFor(this.#pasting);
        this.#pasting = null;
      }
    }
  }

  /** Nothing came after the beginning of what might have been a mark: it was none. */
  flush(): string {
    if (this.#pasting !== null) return '';
    const cut = this.#cut;
    this.#cut = '';
    return cut;
  }

  /** A line of input with what was pasted in place of its marks. */
  expand(line: string): string {
    return line.replace(/\[pasted #\d+: [^\]]*\]/g, (mark) => this.#kept.get(mark) ?? mark);
  }

  #markFor(raw: string): string {
    const text = raw
      .replace(/\r\n?/g, '\n')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what would act on the terminal
      .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '')
      .replace(/\n$/, '');
    const lines = text.split('\n').length;
    if (lines === 1 && text.length <= LONGEST) return text;
    const size = lines > 1 ? `${lines} lines` : `${text.length} characters`;
    const mark = `[pasted #${this.#kept.size + 1}: ${size}]`;
    this.#kept.set(mark, text);
    return mark;
  }
}

/** Characters at the end of `text` that may be the beginning of `mark`. */
function cutOff(text: string, mark: string): number {
  for (let n = Math.min(mark.length - 1, text.length); n > 0; n--) if (mark.startsWith(text.slice(-n))) return n;
  return 0;
}

type Keyboard = Readable & { isTTY?: boolean; setRawMode?: (mode: boolean) => unknown };

/** `keyboard` as the line editor shall see it. `close` lets go of it. */
export function withoutPastes(keyboard: Keyboard, pastes: Pastes): { input: Keyboard; close: () => void } {
  const setRawMode = (mode: boolean) => keyboard.setRawMode?.(mode);
  const input: Keyboard = Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY: true, setRawMode });
  let timer: NodeJS.Timeout | undefined;
  const decoder = new TextDecoder();
  const onData = (bytes: Buffer | string) => {
    clearTimeout(timer);
    const text = typeof bytes === 'string' ? bytes : decoder.decode(bytes, { stream: true });
    pass(pastes.feed(text));
    timer = setTimeout(() => pass(pastes.flush()), CUT_MS);
  };
  const pass = (text: string) => void (text !== '' && (input as unknown as PassThrough).write(text));
  const onEnd = () => (input as unknown as PassThrough).end();
  keyboard.on('data', onData).once('end', onEnd);
  return {
    input,
    close: () => {
      clearTimeout(timer);
      keyboard.off('data', onData).off('end', onEnd);
      keyboard.pause();
    },
  };
}
