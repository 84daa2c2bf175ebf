// Numbers and rows as Markdown.

/** Quantile of a sorted list; NaN of an empty one. */
export const at = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;

const short = (x) => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(0) : x.toFixed(1));

function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

export function suiteTable(drafts) {
  const head = [
    'draft, undeclared',
    'engine',
    'schemas',
    'compiled',
    'refused with an error',
    'aborted',
    'failed, crashed, hung',
    'invalid documents accepted',
    'valid documents accepted',
    'drawn documents that are invalid',
    'schemas that let one through',
    'compile ms P50 / P99',
    'mask µs P50 / P99',
    'schema with its documents, ms P50 / P99',
  ];
  const rows = drafts.flatMap(({ draft, undeclared, tallies }) =>
    tallies.map((t) => [
      `${draft}, ${undeclared}`,
      t.name,
      t.groups,
      t.compiled,
      t.refused,
      t.aborted,
      t.crashed + t.timeout + t.failed,
      `${t.invalidAccepted} of ${t.invalid}`,
      `${t.validAccepted} of ${t.valid}`,
      t.drawn === 0 ? '–' : `${t.drawnInvalid} of ${t.drawn}`,
      t.unsoundGroups,
      `${short(t.compileMs.p50)} / ${short(t.compileMs.p99)}`,
      `${short(t.maskUs.p50)} / ${short(t.maskUs.p99)}`,
      `${short(t.schemaMs.p50)} / ${short(t.schemaMs.p99)}`,
    ]),
  );
  return table(head, rows);
}

export function hazardTable(rows) {
  const told = ({ outcome, compileMs }, none) => {
    const what = outcome === 'compiled' && none ? 'compiled (nothing satisfies it)' : outcome;
    return compileMs === undefined ? what : `${what}, ${short(compileMs)} ms`;
  };
  return table(
    ['schema', 'ours', 'peer'],
    rows.map((r) => [r.name.replaceAll('|', '\\|'), told(r.ours, r.none), told(r.peer, r.none)]),
  );
}

export function speedTable(rows) {
  const head = [
    'schema',
    'engine',
    'compile ms',
    'documents',
    'with escapes',
    'first P50',
    'first P99',
    'first max',
    'warm P50',
    'warm P99',
    'warm max',
  ];
  const cells = (name, engine, s, escaped) => [
    name,
    engine,
    short(s.compileMs),
    `${s.accepted} of ${s.documents}`,
    escaped === undefined ? '–' : `${escaped} of ${s.documents}`,
    ...[s.firstUs, s.warmUs].flatMap((q) => [q.p50, q.p99, q.max].map(short)),
  ];
  return table(
    head,
    rows.flatMap((r) => [cells(r.name, 'ours', r.ours, r.escaped.ours), cells('', 'peer', r.peer, r.escaped.peer)]),
  );
}
