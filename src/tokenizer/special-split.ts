/** Finds the spellings of special tokens in text. */

/** A piece of text, or the token that its spelling stands for. */
type Fragment = string | number;

/**
 * Longer spellings are found before shorter ones, each from left to right, as llama.cpp does.
 * Spellings of a single character are text. `named` is sorted, longest first; `wanted` says which tokens count.
 */
export function splitSpecial(
  text: string,
  named: ReadonlyMap<string, number>,
  wanted: (id: number) => boolean,
): Fragment[] {
  let fragments: Fragment[] = [text];
  for (const [spelling, id] of named) {
    if (spelling.length < 2 || !wanted(id) || !text.includes(spelling)) continue;
    const split: Fragment[] = [];
    for (const fragment of fragments) {
      if (typeof fragment === 'number') split.push(fragment);
      else splitOne(fragment, spelling, id, split);
    }
    fragments = split;
  }
  return fragments.filter((f) => f !== '');
}

function splitOne(text: string, spelling: string, id: number, out: Fragment[]): void {
  let from = 0;
  for (let at = text.indexOf(spelling); at >= 0; at = text.indexOf(spelling, from)) {
    out.push(text.slice(from, at), id);
    from = at + spelling.length;
  }
  out.push(text.slice(from));
}
