// The one-way rule of ARCHITECTURE.md: imports point only downwards; type-only imports count.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..', 'src');

/** Layer → what it may import beside itself. `index` is src/index.ts, `base` is types, config and errors. */
const rule = {
  cli: ['index', 'bench'],
  server: ['index', 'base'],
  dashboard: ['index'],
  index: ['base', 'engine', 'cache', 'model', 'device', 'weights', 'tokenizer', 'hub', 'grammar'],
  bench: ['base', 'engine', 'cache', 'model', 'device', 'weights', 'tokenizer', 'hub'],
  engine: ['base', 'cache', 'model', 'device', 'grammar'],
  cache: ['base'],
  model: ['base', 'device'],
  device: ['base'],
  weights: ['base'],
  tokenizer: ['base'],
  hub: ['base'],
  grammar: ['base'],
  base: [],
};

function* sources(dir) {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const file = path.join(dir, entry.name);
    if (entry.isDirectory()) yield* sources(file);
    else if (/\.tsx?$/.test(entry.name)) yield file;
  }
}

function layerOf(file) {
  const [first, ...rest] = path.relative(root, file).split(path.sep);
  if (rest.length > 0) return first;
  return first === 'index.ts' ? 'index' : 'base';
}

const broken = [];
let checked = 0;
for (const file of sources(root)) {
  const from = layerOf(file);
  if (!rule[from]) broken.push(`${path.relative(root, file)}: folder '${from}' has no place in the layers`);
  const text = readFileSync(file, 'utf8');
  for (const [, spec] of text.matchAll(/(?:from|import|import\()\s*['"](\.[^'"]+)['"]/g)) {
    checked++;
    const target = path.resolve(path.dirname(file), spec.replace(/\.js$/, '.ts'));
    if (!target.startsWith(root + path.sep)) {
      if (!/package\.json$/.test(target)) broken.push(`${path.relative(root, file)} imports '${spec}' outside src/`);
      continue;
    }
    const to = layerOf(target);
    if (to !== from && !rule[from]?.includes(to)) {
      broken.push(`${path.relative(root, file)} (${from}) imports '${spec}' (${to})`);
    }
  }
}
if (broken.length > 0) {
  console.error(`The import rule is broken:\n${broken.map((b) => `  ${b}`).join('\n')}`);
  process.exit(1);
}
console.log(`import rule: ${checked} imports point downwards`);
