/** Files that are near to what they were: bytes changed, or values of JSON exchanged. */

type Random = () => number;

export const pick = <T>(r: Random, list: readonly T[]): T => list[Math.floor(r() * list.length)]!;

const HUGE = [0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 40n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

export function mutateBytes(bytes: Buffer, r: Random): Buffer {
  const out = Buffer.from(bytes);
  for (let n = 1 + Math.floor(r() * 4); n > 0; n--) {
    // most of a header is at its beginning
    const at = Math.floor(r() ** 2 * out.length);
    const kind = r();
    if (kind < 0.5) out[at] = Math.floor(r() * 256);
    else if (kind < 0.7) out[at] = pick(r, [0, 1, 0x7f, 0x80, 0xff]);
    else if (kind < 0.9 && at + 8 <= out.length) out.writeBigUInt64LE(pick(r, HUGE), at);
    else out.copyWithin(at, Math.floor(r() * out.length), Math.floor(r() * out.length));
  }
  return r() < 0.05 ? out.subarray(0, Math.floor(r() * out.length)) : out;
}

/** What JSON.stringify could not write: put in as text afterwards. */
const DEEP: Readonly<Record<string, string>> = {
  '"@lists@"': '['.repeat(20_000) + ']'.repeat(20_000),
  '"@sequences@"': `${'{"type":"Sequence","normalizers":[{"type":"Sequence","pretokenizers":['.repeat(2000)}${']}]}'.repeat(2000)}`,
};
const WORDS = [
  ...['linear', 'yarn', 'llama3', 'longrope', 'dynamic', 'Metaspace', 'Unigram', 'sliding_attention', 'full_attention'],
  ...['F32', 'BF16', 'U8', 'I8', 'I32', 'I64', 'F8_E4M3', 'F8_E8M0', 'awq', 'gptq', 'gptq_v2', 'fp8', 'gemm', 'group'],
  ...['compressed-tensors', 'pack-quantized', 'int-quantized', 'mxfp4-pack-quantized', 'channel', 'float', 'LORA'],
];
const VALUES: readonly ((r: Random) => unknown)[] = [
  () => null,
  () => 0,
  () => -1,
  () => 1,
  () => 2 ** 31 - 1,
  () => 2 ** 31,
  () => 2 ** 53,
  () => 1e308,
  () => 0.5,
  () => true,
  () => '',
  () => 'x'.repeat(3000),
  () => '../../etc/passwd',
  () => '\u0000',
  () => '(?i:a*)*+[^',
  () => [],
  () => ({}),
  () => [2 ** 52, 2 ** 52],
  () => '@lists@',
  () => '@sequences@',
  (r) => Math.floor(r() * 1000),
  (r) => 2 ** Math.floor(r() * 12),
  (r) => pick(r, WORDS),
  (r) => pick(r, WORDS),
];

/** As bytes, or as JSON with values exchanged: mostly within the field `within`, where it is named and there. */
export function mutateJson(text: string, r: Random, within?: string): string {
  if (r() < 0.2) return mutateBytes(Buffer.from(text), r).toString('utf8');
  const root = JSON.parse(text) as Record<string, unknown>;
  const inner = within === undefined ? undefined : root[within];
  for (let n = 1 + Math.floor(r() * 3); n > 0; n--)
    exchange(typeof inner === 'object' && inner !== null && r() < 0.8 ? inner : root, r);
  return Object.entries(DEEP).reduce((t, [mark, deep]) => t.replaceAll(mark, () => deep), JSON.stringify(root));
}

/** Goes down to a value somewhere, and puts another in its place, or takes it away. */
function exchange(root: unknown, r: Random): void {
  let node = root as Record<string, unknown>;
  for (;;) {
    const keys = Object.keys(node);
    if (keys.length === 0) return;
    const key = pick(r, keys);
    const child = node[key];
    if (typeof child === 'object' && child !== null && r() < 0.85) {
      node = child as Record<string, unknown>;
      continue;
    }
    const kind = r();
    if (kind < 0.15 && !Array.isArray(node)) delete node[key];
    else if (kind < 0.3) node[key] = node[pick(r, keys)];
    else if (kind < 0.4 && typeof child === 'string')
      node[key] = child.slice(0, Math.floor(r() * child.length)) + pick(r, ['(', ']', '+', '\\', '*', '\u{1f600}']);
    else node[key] = pick(r, VALUES)(r);
    return;
  }
}

const PIECES = [
  '{% for m in messages %}',
  '{% endfor %}',
  '{% if x %}',
  '{% endif %}',
  '{{ messages }}',
  '{% macro f() %}',
];
const MORE = [
  '{% endmacro %}',
  '{{ f() }}',
  '{% set n = n ~ n %}',
  "{{ 'x' * 9999999 }}",
  '{{ range(999999999) }}',
  '{%',
  '}}',
];

/** A template with pieces of it, or of others, put in, doubled or left out. */
export function mutateTemplate(text: string, r: Random): string {
  let out = text;
  for (let n = 1 + Math.floor(r() * 3); n > 0; n--) {
    const [at, from] = [Math.floor(r() * out.length), Math.floor(r() * out.length)];
    const length = Math.floor(r() * 60);
    const kind = r();
    if (kind < 0.4) out = out.slice(0, at) + pick(r, [...PIECES, ...MORE]) + out.slice(at);
    else if (kind < 0.6) out = out.slice(0, at) + out.slice(from, from + length) + out.slice(at);
    else if (kind < 0.8) out = out.slice(0, at) + out.slice(at + length);
    else out = mutateBytes(Buffer.from(out), r).toString('utf8');
  }
  return out;
}
