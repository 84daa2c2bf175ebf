/**
 * The part of Markdown that models write, as a tree. HTML is text here like any other: a tree has no node for it, so none
 * can reach the page. Text that is still being written parses, too (an open fence runs to the end).
 */
export type Inline =
  | { type: 'text'; text: string }
  | { type: 'code'; text: string }
  | { type: 'strong' | 'em' | 'del'; children: Inline[] }
  | { type: 'link'; href: string; children: Inline[] }
  | { type: 'break' };

export type Block =
  | { type: 'paragraph'; children: Inline[] }
  | { type: 'heading'; level: number; children: Inline[] }
  | { type: 'code'; language: string; text: string }
  | { type: 'quote'; children: Block[] }
  | { type: 'list'; ordered: boolean; start: number; items: Block[][] }
  | { type: 'table'; head: Inline[][]; rows: Inline[][][] }
  | { type: 'rule' };

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])\s*(?:\1\s*){2,}$/;
const ITEM = /^( {0,8})([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
/** Quotes and lists in each other, no deeper than this: what is written may be hostile. */
const MAX_DEPTH = 8;

export function parseMarkdown(source: string): Block[] {
  return blocksOf(source.replace(/\r\n?/g, '\n').replace(/\t/g, '    ').split('\n'), 0);
}

function blocksOf(lines: string[], depth: number): Block[] {
  const out: Block[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at] as string;
    if (line.trim() === '') {
      at++;
      continue;
    }
    const taken = takeBlock(lines, at, depth, out);
    at += taken;
  }
  return out;
}

/** Adds the block that begins at line `at`; returns how many lines it took. */
function takeBlock(lines: string[], at: number, depth: number, out: Block[]): number {
  const line = lines[at] as string;
  const fence = FENCE.exec(line);
  if (fence) return takeFence(lines, at, fence[1] as string, fence[2] as string, out);
  const heading = HEADING.exec(line);
  if (heading) {
    out.push({ type: 'heading', level: (heading[1] as string).length, children: inlinesOf(heading[2] as string) });
    return 1;
  }
  if (RULE.test(line)) {
    out.push({ type: 'rule' });
    return 1;
  }
  if (QUOTE.test(line) && depth < MAX_DEPTH) return takeQuote(lines, at, depth, out);
  if (ITEM.test(line) && depth < MAX_DEPTH) return takeList(lines, at, depth, out);
  if (line.includes('|') && TABLE_RULE.test(lines[at + 1] ?? '') && (lines[at + 1] as string).includes('-'))
    return takeTable(lines, at, out);
  return takeParagraph(lines, at, out);
}

function takeFence(lines: string[], at: number, mark: string, language: string, out: Block[]): number {
  const closing = new RegExp(`^ {0,3}\\${mark[0]}{${mark.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end] as string)) end++;
  out.push({ type: 'code', language, text: lines.slice(at + 1, end).join('\n') });
  return end - at + 1;
}

function takeQuote(lines: string[], at: number, depth: number, out: Block[]): number {
  const inside: string[] = [];
  let end = at;
  for (; end < lines.length; end++) {
    const m = QUOTE.exec(lines[end] as string);
    if (!m) break;
    inside.push(m[1] as string);
  }
  out.push({ type: 'quote', children: blocksOf(inside, depth + 1) });
  return end - at;
}

function takeList(lines: string[], at: number, depth: number, out: Block[]): number {
  const first = ITEM.exec(lines[at] as string) as RegExpExecArray;
  const indent = (first[1] as string).length;
  const ordered = /\d/.test(first[2] as string);
  const items: string[][] = [];
  let end = at;
  for (; end < lines.length; end++) {
    const line = lines[end] as string;
    const m = ITEM.exec(line);
    if (m && (m[1] as string).length <= indent + 1 && !RULE.test(line)) {
      if (/\d/.test(m[2] as string) !== ordered || (m[1] as string).length < indent) break;
      items.push([m[4] as string]);
    } else if (line.trim() === '') {
      const next = lines[end + 1] ?? '';
      if (next.trim() === '' || (!/^\s{2,}/.test(next) && !ITEM.test(next))) break;
      items.at(-1)?.push('');
    } else if (/^\s/.test(line)) items.at(-1)?.push(line.slice(Math.min(indent + 2, line.search(/\S/))));
    else if (FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line)) break;
    else items.at(-1)?.push(line);
  }
  const start = ordered ? Number.parseInt(first[2] as string, 10) : 1;
  out.push({ type: 'list', ordered, start, items: items.map((i) => blocksOf(i, depth + 1)) });
  return Math.max(1, end - at);
}

function takeTable(lines: string[], at: number, out: Block[]): number {
  const head = cellsOf(lines[at] as string);
  let end = at + 2;
  const rows: Inline[][][] = [];
  for (; end < lines.length && (lines[end] as string).includes('|'); end++) {
    const cells = cellsOf(lines[end] as string);
    rows.push(head.map((_, i) => inlinesOf(cells[i] ?? '')));
  }
  out.push({ type: 'table', head: head.map(inlinesOf), rows });
  return end - at;
}

const cellsOf = (line: string): string[] =>
  line
    .trim()
    .replace(/^\||\|$/g, '')
    .split('|')
    .map((c) => c.trim());

function takeParagraph(lines: string[], at: number, out: Block[]): number {
  let end = at + 1;
  const ends = (l: string): boolean =>
    l.trim() === '' || FENCE.test(l) || HEADING.test(l) || RULE.test(l) || QUOTE.test(l) || ITEM.test(l);
  while (end < lines.length && !ends(lines[end] as string)) end++;
  out.push({ type: 'paragraph', children: inlinesOf(lines.slice(at, end).join('\n').trim()) });
  return end - at;
}

// ---------------------------------------------------------------- inside a line

/** The first of these in a text is taken; each pattern is linear in its length. */
const INLINE =
  /\\([\\`*_{}[\]()#+\-.!|~>])|(`+)([^`][\s\S]*?)\2(?!`)|\*\*(?=\S)([^*]+(?:\*[^*]+)*?)\*\*|__(?=\S)([^_]+)__|\*(?=\S)([^*\n]+)\*|(?<![\w_])_(?=\S)([^_\n]+)_(?![\w_])|~~(?=\S)([^~]+)~~|\[([^\][\n]+)\]\(([^()\s]{1,2000})\)|(https?:\/\/[^\s<>()"'`]+[^\s<>()"'`.,;:!?])| {2,}\n|\n/;
const MAX_INLINE_DEPTH = 6;

export function inlinesOf(text: string, depth = 0): Inline[] {
  const out: Inline[] = [];
  let rest = text;
  while (rest !== '') {
    const m = INLINE.exec(rest);
    if (!m) break;
    if (m.index > 0) addText(out, rest.slice(0, m.index));
    const node = nodeOf(m, depth);
    if (node.type === 'text') addText(out, node.text);
    else out.push(node);
    rest = rest.slice(m.index + m[0].length);
  }
  addText(out, rest);
  return out;
}

function nodeOf(m: RegExpExecArray, depth: number): Inline {
  const inner = (t: string): Inline[] =>
    depth < MAX_INLINE_DEPTH ? inlinesOf(t, depth + 1) : [{ type: 'text', text: t }];
  const [all, escaped, , code, strong, strong2, em, em2, del, label, href, url] = m;
  if (escaped !== undefined) return { type: 'text', text: escaped };
  if (code !== undefined) return { type: 'code', text: code.trim() };
  if (strong !== undefined || strong2 !== undefined)
    return { type: 'strong', children: inner((strong ?? strong2) as string) };
  if (em !== undefined || em2 !== undefined) return { type: 'em', children: inner((em ?? em2) as string) };
  if (del !== undefined) return { type: 'del', children: inner(del) };
  if (label !== undefined && href !== undefined) {
    // anything but the web (javascript:, data:) stays text
    if (!/^(https?:\/\/|mailto:)/i.test(href)) return { type: 'text', text: all };
    return { type: 'link', href, children: inner(label) };
  }
  if (url !== undefined) return { type: 'link', href: url, children: [{ type: 'text', text: url }] };
  // model text: a line break in it is meant
  return { type: 'break' };
}

function addText(out: Inline[], text: string): void {
  if (text === '') return;
  const last = out.at(-1);
  if (last?.type === 'text') last.text += text;
  else out.push({ type: 'text', text });
}
