/** PyTorch in the same call: a part of bench:gpu. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Their figures into the rows of the same work; the better of the two is the baseline. */
export function besidePyTorch(rows: { work: string; baseline?: number | null }[]): object {
  const script = fileURLToPath(new URL('../../bench/cuda/torch_baseline.py', import.meta.url));
  const { stdout, stderr } = spawnSync('python3', [script, '--transformers'], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  const line = stdout.split('\n').findLast((l) => l.startsWith('{'));
  if (!line) return { failed: stderr.slice(-2000) };
  const theirs = JSON.parse(line) as Record<'plain' | 'transformers', { work: string; value: number }[] | undefined>;
  for (const { work, value } of [...(theirs.plain ?? []), ...(theirs.transformers ?? [])]) {
    const row = rows.find((r) => r.work === work);
    if (row) row.baseline = Math.max(value, row.baseline ?? 0);
  }
  console.error(JSON.stringify(theirs));
  return theirs;
}
