// No value is exported that no other file imports, and nothing handed on by an index. What a package's entries hand out is
// meant for others and not looked at; a type may be the name of something that is.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(path.dirname(new URL(import.meta.url).pathname), '..');
/** The entries of the packages; what they export, also by `export *`, is for their users. */
const entries = ['.', 'packages/grammar'].flatMap((home) => {
  const { exports } = JSON.parse(readFileSync(path.join(root, home, 'package.json'), 'utf8'));
  return Object.values(exports)
    .map((e) => e.types)
    .filter(Boolean)
    .map((types) => path.posix.join(home, types.replace(/(^|\/)dist\//, '$1').replace(/\.d\.ts$/, '.ts')));
});

function* sources(dir) {
  for (const entry of readdirSync(path.join(root, dir), { withFileTypes: true })) {
    const file = `${dir}/${entry.name}`;
    if (entry.isDirectory() && !['node_modules', 'dist'].includes(entry.name)) yield* sources(file);
    else if (entry.isFile() && /\.(ts|tsx|mjs|js)$/.test(entry.name)) yield file;
  }
}

/** The source that `spec` means in `file`, or null: a package. */
function resolve(file, spec) {
  const target = path.posix.join(path.posix.dirname(file), spec).replace(/(^|\/)dist\//, '$1');
  const ends = ['', '.ts', '.tsx'].flatMap((end) => [target + end, target.replace(/\.js$/, end)]);
  return ends.find((f) => /\.\w+$/.test(f) && existsSync(path.join(root, f))) ?? null;
}

const files = ['src', 'packages', 'bench', 'test', 'scripts', 'bin'].flatMap((dir) => [...sources(dir)]);
const texts = new Map(files.map((f) => [f, readFileSync(path.join(root, f), 'utf8')]));
/** 'file name' of all that is imported by name; files of which everything may be used. */
const named = new Set();
const whole = new Set([...entries, 'src/cli/run.ts']);

for (const [file, text] of texts) {
  for (const [, clause, spec] of text.matchAll(
    /(?:import|export)\s+(?:type\s+)?([^;'"]*?)\s*from\s*['"](\.[^'"]+)['"]/g,
  )) {
    const target = resolve(file, spec);
    if (!target) continue;
    const list = /\{([^}]*)\}/.exec(clause)?.[1];
    if (list === undefined || clause.includes('*')) {
      // `export *` hands on; only an entry that does so makes everything public
      if (/^import/.test(clause) || !/^\*$/.test(clause) || entries.includes(file)) whole.add(target);
    }
    for (const item of (list ?? '').split(','))
      named.add(
        `${target} ${
          item
            .trim()
            .replace(/^type\s+/, '')
            .split(/\s+as\s+/)[0]
        }`,
      );
  }
  // loaded while it runs, or run by name in a process of its own: whatever is taken is taken there
  for (const [, spec] of text.matchAll(/(?:import\(|new URL\()\s*['"](\.[^'"]+)['"]/g)) {
    const target = resolve(file, spec);
    if (target) whole.add(target);
  }
}

const declared = /^export (?:declare )?(?:abstract )?(?:async )?(?:const|let|function\*?|class|enum) (\w+)/gm;
const dead = [];
let checked = 0;
for (const [file, text] of texts) {
  if (whole.has(file)) continue;
  const names = [...text.matchAll(declared)].map((m) => m[1]);
  for (const [, list] of text.matchAll(/^export (?:type )?\{([^}]*)\}/gm))
    names.push(
      ...list
        .split(',')
        .map((i) =>
          i
            .trim()
            .replace(/^type\s+/, '')
            .split(/\s+as\s+/)
            .at(-1),
        )
        .filter(Boolean),
    );
  checked += names.length;
  for (const name of names) if (!named.has(`${file} ${name}`)) dead.push(`${file}: ${name}`);
}
if (dead.length > 0) {
  console.error(`Exported, but imported by no other file:\n${dead.map((d) => `  ${d}`).join('\n')}`);
  process.exit(1);
}
console.log(`exports: each of ${checked} is imported somewhere`);
