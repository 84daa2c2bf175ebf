// The JSON-Schema-Test-Suite: of each group, whether the schema is compiled or refused, and what becomes of its documents.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { at } from './table.mjs';

/** Groups of one draft, with documents as text. */
export function* readGroups(folder) {
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    // JSON.parse makes 1 of 1.0, so the documents of that file cannot be told apart here
    if (!file.endsWith('.json') || /zeroTerminatedFloats|float-overflow/.test(file)) continue;
    for (const { description, schema, tests } of JSON.parse(readFileSync(path.join(folder, file), 'utf8'))) {
      yield {
        name: `${file}: ${description}`,
        schema,
        documents: tests.map((t) => ({ name: t.description, text: JSON.stringify(t.data), valid: t.valid })),
      };
    }
  }
}

/** Runs one draft on both sides. `draws`: documents drawn from the masks of each schema (drafts that Ajv judges). */
export async function runDraft(draft, groups, sides, draws) {
  const judged = draft === 'draft7' || draft === 'draft2020-12';
  const tallies = sides.map(({ name }) => newTally(name));
  for (const { name, schema, documents } of groups) {
    const request = { schema, documents: documents.map((d) => d.text), draws: judged ? draws : 0, judge: draft };
    for (const [i, { side }] of sides.entries()) count(tallies[i], name, documents, await side.ask(request));
  }
  for (const { side } of sides) side.close();
  return tallies.map(finish);
}

/** Examples that the results keep. */
const MOST_EXAMPLES = 8;

function newTally(name) {
  return {
    name,
    groups: 0,
    compiled: 0,
    refused: 0,
    aborted: 0,
    crashed: 0,
    timeout: 0,
    failed: 0,
    valid: 0,
    validAccepted: 0,
    invalid: 0,
    invalidAccepted: 0,
    /** Groups that accept a document which is invalid, or draw one. */
    unsoundGroups: 0,
    drawn: 0,
    drawnInvalid: 0,
    compileMs: [],
    maskUs: [],
    /** Compiling a schema and all masks of its documents. */
    schemaMs: [],
    /** Invalid documents that were accepted, by file of the suite; those of optional/ hold what the standard leaves open. */
    wrongByFile: {},
    /** The first of them. */
    drawnWrong: [],
    said: {},
  };
}

function count(tally, name, documents, reply) {
  tally.groups++;
  tally[reply.outcome]++;
  if (reply.outcome !== 'compiled') {
    const said = `${reply.outcome}: ${reply.message.slice(0, 90)}`;
    tally.said[said] = (tally.said[said] ?? 0) + 1;
    return;
  }
  tally.compileMs.push(reply.compileMs);
  for (const t of reply.times) tally.maskUs.push(t);
  tally.schemaMs.push(reply.compileMs + reply.times.reduce((a, b) => a + b, 0) / 1000);
  let wrong = 0;
  documents.forEach(({ valid }, i) => {
    tally[valid ? 'valid' : 'invalid']++;
    if (!reply.accepted[i]) return;
    tally[valid ? 'validAccepted' : 'invalidAccepted']++;
    if (valid) return;
    wrong++;
    const file = name.split(':')[0];
    tally.wrongByFile[file] = (tally.wrongByFile[file] ?? 0) + 1;
  });
  tally.drawn += reply.drawn;
  tally.drawnInvalid += reply.drawnWrong.length;
  if (reply.drawnWrong.length > 0 && tally.drawnWrong.length < MOST_EXAMPLES)
    tally.drawnWrong.push(`${name}: ${reply.drawnWrong[0].slice(0, 120)}`);
  if (wrong > 0 || reply.drawnWrong.length > 0) tally.unsoundGroups++;
}

function finish({ compileMs, maskUs, schemaMs, ...tally }) {
  const quantiles = (list) => {
    const sorted = list.sort((a, b) => a - b);
    return { p50: at(sorted, 0.5), p99: at(sorted, 0.99), max: at(sorted, 1), count: sorted.length };
  };
  return { ...tally, compileMs: quantiles(compileMs), maskUs: quantiles(maskUs), schemaMs: quantiles(schemaMs) };
}
