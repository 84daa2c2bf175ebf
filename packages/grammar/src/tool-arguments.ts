/** Arguments of a call as they stream in, as JSON. */

interface Read {
  /** The next piece of the JSON object. */
  delta: string;
  /** Where reading stopped. */
  to: number;
  done: boolean;
}

/** Follows strings and brackets, the same in both notations. */
class Nesting {
  depth = 0;
  inString = false;
  private escaped = false;

  /** True if the character belongs to a string. */
  text(c: string): boolean {
    if (!this.inString) {
      this.inString = c === '"';
      return this.inString;
    }
    if (this.escaped) this.escaped = false;
    else if (c === '\\') this.escaped = true;
    else if (c === '"') this.inString = false;
    return true;
  }
}

/** A JSON object, from before its brace on. */
export class JsonArguments {
  private readonly nesting = new Nesting();

  read(text: string, at: number): Read {
    const { nesting } = this;
    let from = at;
    for (let i = at; i < text.length; i++) {
      const c = text[i];
      if (nesting.text(c)) continue;
      if (c === '{' || c === '[') nesting.depth++;
      else if (c === '}' || c === ']') {
        nesting.depth--;
        if (nesting.depth === 0) return { delta: text.slice(from, i + 1), to: i + 1, done: true };
      } else if (nesting.depth === 0) from = i + 1; // whitespace before the object
    }
    return { delta: text.slice(from), to: text.length, done: false };
  }
}

const LITERALS: Record<string, string> = { None: 'null', True: 'true', False: 'false' };

/** `key=value, …)`, from behind the opening parenthesis on. */
export class PythonArguments {
  private readonly nesting = new Nesting();
  private begun = false;
  private inKey = true;
  /** Of a key, or of a literal. */
  private word = '';

  read(text: string, at: number): Read {
    let delta = this.begun ? '' : '{';
    this.begun = true;
    for (let i = at; i < text.length; i++) {
      const c = text[i];
      if (c === ')' && this.nesting.depth === 0 && !this.nesting.inString)
        return { delta: `${delta}}`, to: i + 1, done: true };
      delta += this.inKey ? this.key(c) : this.value(c);
    }
    return { delta, to: text.length, done: false };
  }

  private key(c: string): string {
    if (/\w/.test(c)) {
      this.word += c;
      return '';
    }
    if (c !== '=') return c; // space
    const name = JSON.stringify(this.word);
    this.word = '';
    this.inKey = false;
    return `${name}: `;
  }

  private value(c: string): string {
    const { nesting } = this;
    if (nesting.text(c)) return c;
    if (this.word !== '' || c === 'N' || c === 'T' || c === 'F') {
      this.word += c;
      const literal = LITERALS[this.word];
      if (literal !== undefined) this.word = '';
      return literal ?? '';
    }
    if (c === '{' || c === '[') nesting.depth++;
    else if (c === '}' || c === ']') nesting.depth--;
    else if (c === ',' && nesting.depth === 0) this.inKey = true;
    return c;
  }
}
