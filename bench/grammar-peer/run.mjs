// npm run bench:grammar-peer [-- --help]
// longmind-grammar ('ours') beside @mlc-ai/web-xgrammar ('peer') with the vocabulary of a real model: the JSON-Schema-Test-Suite,
// schemas that a server must survive, and the time of masks.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { resolveModel } from '../../dist/src/index.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: 'default' },
    suite: { type: 'string', default: '' },
    drafts: { type: 'string', default: 'draft4' },
    draws: { type: 'string', default: '4' },
    only: { type: 'string', default: 'suite,hazards,speed' },
    json: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (args.help) {
  console.log(`usage: npm run bench:grammar-peer -- [options]
  --suite DIR      a JSON-Schema-Test-Suite's tests/ folder (default: the npm package's, draft 4 only). Newer drafts come with
                   jsonschema:  pip download --no-deps --no-binary :all: jsonschema==4.25.1 && tar xzf jsonschema-4.25.1.tar.gz
                   and then  --suite jsonschema-4.25.1/json/tests
  --drafts LIST    folders of it (draft4)
  --draws N        documents drawn from the masks of each schema of draft7 and draft2020-12, judged by Ajv (4)
  --only LIST      suite, hazards, speed (all)
  --model REF      whose vocabulary (default)
  --json           one JSON object instead of tables
  --save           write bench/results/grammar-peer.json; parts that --only leaves out stay in it as they are`);
  process.exit(0);
}
const here = path.dirname(new URL(import.meta.url).pathname);
if (!fs.existsSync(path.join(here, 'node_modules/@mlc-ai/web-xgrammar'))) {
  console.error('the peer is not installed: run  npm ci --prefix bench/grammar-peer');
  process.exit(1);
}
const { peerVersion, publishedErrors } = await import('./load.mjs');
const { Side } = await import('./side.mjs');
const { readGroups, runDraft } = await import('./suite.mjs');
const { runHazards } = await import('./hazards.mjs');
const { runSpeed } = await import('./speed.mjs');
const { openVocabulary } = await import('./vocabulary.mjs');
const { hazardTable, speedTable, suiteTable } = await import('./table.mjs');

const { path: model } = await resolveModel(args.model);
const npmSuite = path.dirname(createRequire(import.meta.url).resolve('json-schema-test-suite/package.json'));
const suite = args.suite || path.join(npmSuite, 'tests');
const only = new Set(args.only.split(','));
const sides = (undeclared) => ['ours', 'peer'].map((name) => ({ name, side: new Side(name, model, undeclared) }));

const result = {
  date: new Date().toISOString().slice(0, 10),
  node: process.version,
  cpu: os.cpus()[0]?.model.trim() ?? '',
  model: path.basename(model),
  peer: `@mlc-ai/web-xgrammar ${peerVersion}`,
  asPublished: await publishedErrors(),
  suite: [],
  hazards: [],
  speed: [],
};
if (only.has('speed')) result.speed = await runSpeed(openVocabulary(model));
if (only.has('hazards')) result.hazards = await runHazards(sides('closed'));
if (only.has('suite')) {
  for (const draft of args.drafts.split(',')) {
    const groups = [...readGroups(path.join(suite, draft))];
    for (const undeclared of ['open', 'closed']) {
      const tallies = await runDraft(draft, groups, sides(undeclared), Number(args.draws));
      result.suite.push({ draft, undeclared, tallies });
    }
  }
}

if (args.save) {
  // parts that were not asked for stay as they were measured
  const file = path.join(here, '../results/grammar-peer.json');
  const before = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
  for (const part of ['suite', 'hazards', 'speed']) {
    if (!only.has(part)) result[part] = before[part] ?? [];
  }
  fs.writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
}
if (args.json) console.log(JSON.stringify(result));
else {
  console.log(`${result.peer}; vocabulary of ${result.model}; node ${result.node}; ${result.cpu}`);
  console.log(`as published: import: ${result.asPublished.import}; require: ${result.asPublished.require}`);
  if (result.suite.length > 0) console.log(`\n${suiteTable(result.suite)}`);
  if (result.hazards.length > 0) console.log(`\n${hazardTable(result.hazards)}`);
  if (result.speed.length > 0) console.log(`\nmicroseconds of a mask with its accept\n${speedTable(result.speed)}`);
}
