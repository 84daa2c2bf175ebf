/** What a measurement is to reach. Who misses is named, and the script ends with status 1, unless it was told --no-fail. */
export interface Target {
  name: string;
  value: number;
  target: number;
  /** Less is better, or more. */
  better: 'less' | 'more';
  unit?: string;
  /** Anything that must hold beside the number: what is wrong, or null. */
  wrong?: string | null;
}

/** Meets its target; NaN does not. */
export function meets({ value, target, better, wrong = null }: Target): boolean {
  return wrong === null && (better === 'less' ? value <= target : value >= target);
}

/** '≤ 250 µs' */
const spelled = ({ target, better, unit = '' }: Target): string =>
  `${better === 'less' ? '≤' : '≥'} ${target}${unit && ` ${unit}`}`;

/** Names on stderr what was missed. False, and exit status 1 (not with `noFail`), if anything was. */
export function judge(targets: readonly Target[], noFail: boolean): boolean {
  const missed = targets.filter((t) => !meets(t));
  for (const t of missed) {
    const value = `${Number(t.value.toPrecision(5))}${t.unit ? ` ${t.unit}` : ''}`;
    console.error(`missed: ${t.name}: ${value}, target ${spelled(t)}${t.wrong ? `; ${t.wrong}` : ''}`);
  }
  if (missed.length > 0 && !noFail) process.exitCode = 1;
  return missed.length === 0;
}
