// The rows of a comparison as text, for the terminal and as a table in Markdown.
import { meets } from '../../dist/bench/targets.js';

const number = (x) => (x >= 100 ? x.toFixed(0) : x.toFixed(1));
const percent = (x) => (x === null ? '–' : `${(100 * x).toFixed(0)}%`);

/** The target of a row, or null. For times, less is better. */
export function targetOf(row) {
  if (row.missing || row.target === null) return null;
  return { name: row.work, value: row.ratio, target: row.target, better: row.unit === 'ms' ? 'less' : 'more' };
}

/** 'ok' or '!!' against the target; '' where there is none. */
function verdict(row) {
  const target = targetOf(row);
  return target && (meets(target) ? 'ok' : '!!');
}

export const head = `${'work'.padEnd(38)} ${'ours'.padStart(8)} ${'peer'.padStart(8)} unit   ratio target    spread     limit  share  native  ratio`;

export function line(row) {
  if (row.missing) return `${row.work.padEnd(38)} ${row.missing}`;
  const spread = row.ratioSpread.map((x) => x.toFixed(2)).join('…');
  const limit =
    row.share === null
      ? '–'
      : row.limitName === 'int8'
        ? `${row.limits.int8.toFixed(0)} GOPS`
        : `${row.limits.bandwidth.toFixed(1)} GB/s`;
  const native = row.native ? `${number(row.native).padStart(7)} ${row.nativeRatio.toFixed(2).padStart(6)}` : '';
  return (
    `${row.work.padEnd(38)} ${number(row.ours).padStart(8)} ${number(row.peer).padStart(8)} ${row.unit.padEnd(6)} ` +
    `${row.ratio.toFixed(2).padStart(5)} ${String(row.target ?? '–').padStart(6)} ${(verdict(row) ?? '').padEnd(2)} ${spread.padStart(10)} ` +
    `${limit.padStart(9)} ${percent(row.share).padStart(6)} ${native}`
  );
}

export function markdown(rows) {
  const native = rows.some((r) => r.native);
  const columns = ['work', 'ours', 'node-llama-cpp', 'ratio (spread)', 'target', 'share of limit'];
  if (native) columns.push('llama.cpp, native', 'ratio', 'aim');
  const out = [columns, columns.map(() => '---')];
  for (const r of rows) {
    if (r.missing) {
      out.push([r.work, r.missing, ...columns.slice(2).map(() => '')]);
      continue;
    }
    const sign = r.unit === 'ms' ? '≤' : '≥';
    const target = r.target === null ? '–' : `${sign} ${r.target}${verdict(r) === 'ok' ? '' : ' (missed)'}`;
    const share =
      r.share === null
        ? '–'
        : `${percent(r.share)} of ${r.limitName === 'int8' ? `${r.limits.int8.toFixed(0)} GOPS` : `${r.limits.bandwidth.toFixed(1)} GB/s`}`;
    const spread = r.ratioSpread.map((x) => x.toFixed(2)).join('–');
    const cells = [
      r.work,
      number(r.ours),
      `${number(r.peer)} ${r.unit}`,
      `${r.ratio.toFixed(2)} (${spread})`,
      target,
      share,
    ];
    if (native)
      cells.push(
        r.native ? number(r.native) : '–',
        r.nativeRatio ? r.nativeRatio.toFixed(2) : '–',
        r.nativeAim ? `${sign} ${r.nativeAim}` : '–',
      );
    out.push(cells);
  }
  return out.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
