import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { runSuite } from './suite.js';

const suite = path.join(
  path.dirname(createRequire(import.meta.url).resolve('json-schema-test-suite/package.json')),
  'tests',
  'draft4',
);

for (const undeclared of ['open', 'closed'] as const) {
  test(`JSON-Schema-Test-Suite: every schema is refused by name or accepts no invalid document (${undeclared})`, (t) => {
    const r = runSuite(suite, { undeclared });
    t.diagnostic(
      `${r.supported} of ${r.groups} schemas supported; ${r.invalidDocuments} invalid documents all refused`,
    );
    t.diagnostic(`${r.validAccepted} of ${r.validDocuments} valid documents accepted`);
    assert.deepEqual(r.wrong, []);
    assert.ok(r.groups > 80 && r.supported > r.groups / 2, `${r.supported} of ${r.groups}`);
    assert.ok(r.invalidDocuments > 100);
    // with 'open' the language is the schema's own, up to the order of properties
    if (undeclared === 'open') assert.ok(r.validAccepted >= r.validDocuments * 0.9);
  });
}
