/** Small coloured words can be read: 4.5 to 1, as WCAG AA asks of text. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../support/spawn.js';

const css = (name: string) => readFileSync(join(root, 'src/dashboard/styles', name), 'utf8');
const base = css('base.css');

function variables(selector: string): Map<string, string> {
  const at = base.indexOf(selector);
  const block = base.slice(at, base.indexOf('}', at));
  return new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((m) => [m[1]!, m[2]!]));
}

function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = Number.parseInt(colour.slice(i, i + 2), 16) / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high! + 0.05) / (low! + 0.05);
}

test('every kind of event has the contrast of text, in light and dark', () => {
  const light = variables(':root {');
  const dark = variables(':root[data-theme="dark"] {');
  const rules = [...css('engine.css').matchAll(/((?:\.kind\.\w+,?\s*)+)\{\s*color: var\(--([\w-]+)\);/g)];
  assert.ok(rules.length >= 5, 'hit, partial, miss, evict, fork');
  for (const [theme, colours] of Object.entries({ light, dark })) {
    for (const [, kinds, name] of rules) {
      const found = contrast(colours.get(name!)!, colours.get('soft')!);
      assert.ok(found >= 4.5, `${theme}: ${kinds!.trim()} has ${found.toFixed(2)}`);
    }
  }
});
