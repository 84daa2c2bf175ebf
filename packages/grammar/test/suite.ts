/** Runs the files of the official JSON-Schema-Test-Suite against the grammar compiler. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type CompileOptions, compileJsonSchema, type Grammar, GrammarError } from '../src/index.js';
import { accepts } from './support.js';

interface Group {
  description: string;
  schema: unknown;
  tests: { description: string; data: unknown; valid: boolean }[];
}

export interface SuiteReport {
  groups: number;
  /** Groups whose schema compiled. */
  supported: number;
  /** Refused groups by error code and keyword. */
  refused: Map<string, number>;
  /** Of supported schemas. */
  validDocuments: number;
  validAccepted: number;
  invalidDocuments: number;
  /** Must stay empty: invalid documents that were accepted. */
  wrong: string[];
  /** Valid documents that were not accepted (narrower grammar). */
  narrower: string[];
}

export function runSuite(folder: string, options: CompileOptions): SuiteReport {
  const report: SuiteReport = {
    groups: 0,
    supported: 0,
    refused: new Map(),
    validDocuments: 0,
    validAccepted: 0,
    invalidDocuments: 0,
    wrong: [],
    narrower: [],
  };
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    // JSON.parse makes 1 of 1.0, so these documents cannot be told apart here; language.test.ts writes them as text
    if (!file.endsWith('.json') || file.endsWith('zeroTerminatedFloats.json')) continue;
    const groups = JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as Group[];
    for (const group of groups) runGroup(file, group, options, report);
  }
  return report;
}

function runGroup(file: string, group: Group, options: CompileOptions, report: SuiteReport): void {
  report.groups++;
  let grammar: Grammar;
  try {
    grammar = compileJsonSchema(group.schema, options);
  } catch (e) {
    // any other error is a bug and ends the run
    if (!(e instanceof GrammarError) || e.param !== 'response_format') throw e;
    const keyword = /keyword '([^']*)'/.exec(e.message)?.[1] ?? e.message.replace(/^.*': /, '');
    const reason = `${e.code} ${keyword}`;
    report.refused.set(reason, (report.refused.get(reason) ?? 0) + 1);
    // a schema that nothing satisfies is rightly refused; one that something satisfies must not be called empty
    if (/no document can satisfy/.test(e.message) && group.tests.some((t) => t.valid)) {
      report.narrower.push(`${file}: ${group.description}: called empty`);
    }
    return;
  }
  report.supported++;
  for (const t of group.tests) {
    const name = `${file}: ${group.description}: ${t.description}`;
    const accepted = accepts(grammar, JSON.stringify(t.data));
    if (t.valid) {
      report.validDocuments++;
      if (accepted) report.validAccepted++;
      else report.narrower.push(name);
    } else {
      report.invalidDocuments++;
      if (accepted) report.wrong.push(name);
    }
  }
}
