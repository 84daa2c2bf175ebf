/** Code in the documentation imports what the package exports. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../support/spawn.js';

const files = [
  'README.md',
  'ARCHITECTURE.md',
  ...readdirSync(join(root, 'docs')).map((name) => join('docs', name)),
].filter((name) => name.endsWith('.md'));

interface Import {
  file: string;
  names: string[];
  from: string;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const blocks = [...text.matchAll(/^```(?:js|ts|tsx|javascript|typescript)\n(.*?)^```/gms)].map((m) => m[1]!);
  return blocks.flatMap((block) =>
    [...block.matchAll(/^\s*import (type )?(?:\{([^}]*)\}|\* as \w+|(\w+)) from '([^']+)'/gm)].map((m) => {
      const names = (m[2] ?? '')
        .split(',')
        .map((name) => name.trim())
        .filter((name) => name && !name.startsWith('type '));
      return { file, names: m[1] ? [] : names, from: m[4]! };
    }),
  );
}

test('every import in the documentation can be made by who has the package', async () => {
  const imports = files.flatMap(importsOf);
  assert.ok(imports.filter((i) => i.from === 'longmind').length >= 4);
  for (const { file, names, from } of imports) {
    assert.doesNotMatch(from, /^[./]/, `${file}: '${from}' is a file of this repository`);
    if (from !== 'longmind' && !from.startsWith('longmind/')) continue;
    const exported = (await import(from)) as object;
    for (const name of names)
      assert.ok(name.replace(/ as .*/, '') in exported, `${file}: ${from} exports no '${name}'`);
  }
});

test('links between the documents, and from README, lead to files that are in the package', () => {
  const { files: packed } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] };
  for (const file of files) {
    const text = readFileSync(join(root, file), 'utf8');
    for (const [, link] of text.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      const target = join(file, '..', link!);
      assert.doesNotThrow(() => readdirSync(join(root, target, '..')), `${file}: ${link}`);
      const inside = packed.some((f) => target === f || target.startsWith(`${f}/`));
      // results of measurements, and packages of their own, stay in the repository
      assert.ok(inside || /^(bench|packages)\//.test(target), `${file} links to ${target}, which is not packed`);
    }
  }
});
