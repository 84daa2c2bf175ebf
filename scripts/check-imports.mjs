// The import rule of ARCHITECTURE.md: imports point only downwards, from outside a folder only its faces are seen, and no
// files import each other in a circle. Type-only imports and scripts of workers count.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');

const base = ['src/base', 'src/types', 'src/config', 'src/errors'];
const parts = [
  'src/cache',
  'src/journal',
  'src/store',
  'src/model',
  'src/device',
  'src/weights',
  'src/quantize',
  'src/tokenizer',
  'src/hub',
];
const devices = ['src/device/cpu', 'src/device/cuda', 'src/device/null'];
/** Packages of this repository, which others import by their names alone. */
const packages = { 'longmind-grammar': 'packages/grammar/src' };
const grammar = packages['longmind-grammar'];
const everything = [...base, ...parts, ...devices, grammar, 'src/engine', 'src/index', 'src/bench', 'src/server'];

/**
 * Folder or file → what it may import beside itself (a folder means its faces), and its faces: the files that others may
 * import, by default its index. The longest name that fits a file is the file's. 'all': no limit.
 */
const rule = {
  [grammar]: { may: [] },
  'packages/grammar/test': { may: [grammar], faces: [] },
  'src/types': { may: [grammar] },
  'src/errors': { may: [] },
  'src/config': { may: ['src/types', 'src/errors'] },
  'src/base': { may: ['src/types', 'src/errors'], faces: 'all' },
  'src/hub': { may: base, faces: ['index', 'wheel'] },
  'src/weights': { may: base },
  'src/quantize': { may: [...base, 'src/weights'] },
  'src/tokenizer': { may: base, faces: ['index', 'tokenizer'] },
  'src/device': { may: base, faces: ['device', 'step'] },
  // what a program is compiled to, bench/rows looks at
  'src/device/cpu': { may: [...base, 'src/device'], faces: ['index', 'compile', 'layout'] },
  'src/device/cuda': { may: [...base, 'src/device'] },
  'src/device/null': { may: [...base, 'src/device'] },
  'src/model': { may: [...base, 'src/device'], faces: ['llama'] },
  'src/cache': { may: base, faces: ['index', 'types', 'manager'] },
  // the disk thread's program is another one where the disk is to fail
  'src/tiers': { may: [...base, 'src/cache', 'src/device'], faces: ['index', 'disk-io', 'disk-thread'] },
  'src/journal': { may: base, faces: ['journal'] },
  'src/store': { may: base },
  'src/engine': {
    may: [...base, 'src/cache', 'src/tiers', 'src/journal', 'src/store', 'src/device', grammar],
    faces: ['client', 'core', 'draft', 'request', 'batch', 'prompt', 'step-budget'],
  },
  // only here a device is chosen; everything else knows the interface alone
  'src/engine/worker': { may: [...base, ...devices, 'src/engine', 'src/device', grammar], part: true },
  'src/devices': { may: [...base, ...devices, 'src/hub'] },
  'src/structured': { may: ['src/errors', grammar] },
  'src/index': { may: [...base, ...parts, ...devices, grammar, 'src/structured', 'src/devices', 'src/engine'] },
  'src/bench': { may: [...base, ...parts, ...devices, 'src/tiers', 'src/engine'], faces: 'all' },
  'src/server': { may: ['src/index', 'src/base', 'src/store'], faces: ['index'] },
  // types alone, which the page shares
  'src/server/live/wire': { may: ['src/types'], part: true },
  'src/dashboard': { may: ['src/server/live/wire'], faces: [] },
  'src/cli': { may: ['src/index', 'src/bench'], faces: ['run'] },
  bin: { may: ['src/cli', 'src/server'], faces: [] },
  bench: {
    may: [...everything, 'test/reference', 'test/tokenizer', 'test/weights', 'test/models'],
    faces: [],
  },
  test: { may: 'all', faces: [] },
  'test/reference': { may: [...base, 'src/device'], faces: 'all' },
  'test/tokenizer': { may: 'all', faces: ['small-vocabulary', 'texts'] },
  'test/weights': { may: 'all', faces: ['gguf-builder'] },
  'test/models': { may: 'all', faces: ['fuzz', 'gguf', 'tiny'] },
  scripts: { may: everything, faces: [] },
};

const names = Object.keys(rule).sort((a, b) => b.length - a.length);
const withoutEnd = (file) => file.replace(/(\.d)?\.[a-z]+$/, '');

/** The rule's name for a file, or undefined. */
const ownerOf = (file) => names.find((n) => withoutEnd(file) === n || file.startsWith(`${n}/`));
/** A part of a folder that has a rule of its own is still inside of the folder. */
const homeOf = (owner) => (rule[owner].part ? names.find((n) => owner.startsWith(`${n}/`)) : owner);

function* sources(dir) {
  for (const entry of readdirSync(path.join(root, dir), { withFileTypes: true })) {
    const file = `${dir}/${entry.name}`;
    if (entry.isDirectory() && entry.name !== 'node_modules') yield* sources(file);
    else if (entry.isFile() && /\.(ts|tsx|mjs|js)$/.test(entry.name)) yield file;
  }
}

/** Files of this repository that a file names: imports, exports, scripts of workers. */
function* importsOf(file) {
  const text = readFileSync(path.join(root, file), 'utf8');
  const patterns = [/(?:from|import|import\()\s*['"](\.[^'"]+)['"]/g, /new URL\(['"](\.[^'"]+\.m?js)['"]/g];
  for (const pattern of patterns)
    for (const [, spec] of text.matchAll(pattern)) {
      // what is run from the build is in the sources under the same name
      const target = path.posix.join(path.posix.dirname(file), spec).replace(/^dist\//, '');
      const ends = ['', '.ts', '.tsx'].flatMap((end) => [target + end, target.replace(/\.js$/, end)]);
      const found = ends.find((f) => existsSync(path.join(root, f)) && statSync(path.join(root, f)).isFile());
      yield { spec, target: found };
    }
  for (const [, spec] of text.matchAll(/(?:from|import|import\()\s*['"]([^.'"][^'"]*)['"]/g)) {
    if (packages[spec]) yield { spec, target: `${packages[spec]}/index.ts` };
    // a package is whole by itself
    else if (/^packages\/[^/]+\/src\//.test(file) && !spec.startsWith('node:')) yield { spec };
  }
}

/** The package that a file belongs to: '' for longmind itself. */
const packageOf = (file) => /^packages\/[^/]+/.exec(file)?.[0] ?? '';

/** What is wrong with `file` importing `target` as `spec`, or null. */
function problem(file, spec, target) {
  const from = ownerOf(file);
  const to = ownerOf(target);
  if (spec.startsWith('.') && packageOf(file) !== packageOf(target)) return 'a package is imported by its name';
  if (!to) return `which has no place in the rule`;
  if (homeOf(from) === homeOf(to)) return null;
  const { may } = rule[from];
  const whole = withoutEnd(target);
  if (may !== 'all' && !may.includes(to) && !may.includes(whole)) return `${from} may not import ${to}`;
  const { faces = ['index'] } = rule[to];
  // a test looks behind the faces, and a file that is named in the rule is one
  if (faces === 'all' || /(^|\/)test/.test(from) || whole === to || (may !== 'all' && may.includes(whole))) return null;
  return faces.some((f) => whole === `${to}/${f}`)
    ? null
    : `not a face of ${to} (${faces.join(', ') || 'it has none'})`;
}

/** Sets of files that import each other in a circle (Tarjan). */
function cycles(graph) {
  const index = new Map();
  const low = new Map();
  const stack = [];
  const out = [];
  const visit = (v) => {
    index.set(v, index.size);
    low.set(v, index.get(v));
    stack.push(v);
    for (const w of graph.get(v) ?? []) {
      if (!index.has(w)) visit(w);
      if (stack.includes(w)) low.set(v, Math.min(low.get(v), low.get(w)));
    }
    if (low.get(v) !== index.get(v)) return;
    const found = stack.splice(stack.indexOf(v));
    if (found.length > 1 || graph.get(v)?.has(v)) out.push(found.sort());
  };
  for (const v of graph.keys()) if (!index.has(v)) visit(v);
  return out;
}

const broken = [];
const graph = new Map();
let checked = 0;
for (const file of ['src', 'packages/grammar/src', 'packages/grammar/test', 'bin', 'bench', 'test', 'scripts'].flatMap(
  (dir) => [...sources(dir)],
)) {
  if (!ownerOf(file)) broken.push(`${file} has no place in the rule`);
  graph.set(file, new Set());
  for (const { spec, target } of importsOf(file)) {
    checked++;
    if (!target) {
      if (!/package\.json$/.test(spec)) broken.push(`${file} imports '${spec}', which is not there or not allowed`);
      continue;
    }
    if (!target.endsWith('.json')) graph.get(file).add(target);
    const wrong = target.endsWith('package.json') ? null : problem(file, spec, target);
    if (wrong) broken.push(`${file} imports '${spec}': ${wrong}`);
  }
}
for (const files of cycles(graph)) broken.push(`these import each other in a circle: ${files.join(' ')}`);
for (const [name, { faces = ['index'] }] of Object.entries(rule)) {
  const files = [...graph.keys()].map(withoutEnd);
  if (!files.some((f) => f === name || f.startsWith(`${name}/`)))
    broken.push(`the rule names ${name}, which is not there`);
  else if (faces !== 'all' && !files.includes(name))
    for (const f of faces)
      if (!files.includes(`${name}/${f}`)) broken.push(`the rule names ${name}/${f}, which is not there`);
}
if (broken.length > 0) {
  console.error(`The import rule is broken:\n${broken.map((b) => `  ${b}`).join('\n')}`);
  process.exit(1);
}
console.log(`import rule: ${checked} imports point downwards, to faces, and in no circle`);
