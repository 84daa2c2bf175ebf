/** What the bench commands share: values of options, progress, and how results are shown. */
import { InvalidArgumentError } from 'commander';
import type { Context } from '../context.js';
import { table } from '../terminal.js';

/** A measurement that never pauses cannot be asked to stop: Ctrl-C ends the process as it does by default. */
export const letSignalsEnd = (context: Context): void => context.interrupt.dispose();

/** A measurement takes a while; its progress is shown in whole units. */
export function counter(context: Context, what: string): (done: number, total: number) => void {
  let last = -1;
  return (done, total) => {
    const percent = Math.floor((100 * done) / total);
    if (percent === last || (percent % 10 !== 0 && done < total)) return;
    last = percent;
    context.terminal.note(`${what}: ${done} of ${total}`);
  };
}

export function show(context: Context, result: object): void {
  if (context.terminal.json) context.terminal.value(result);
  else for (const [name, value] of Object.entries(result)) context.terminal.line(`${name.padEnd(20)} ${cell(value)}`);
}

/** Rows of one shape as a table, a column for each field. */
export function showTable(context: Context, rows: readonly Record<string, unknown>[]): void {
  const names = Object.keys(rows[0] ?? {});
  context.terminal.line(table([names, ...rows.map((r) => names.map((n) => cell(r[n])))]));
}

function cell(value: unknown): string {
  if (Array.isArray(value)) {
    const short = value.every((v) => typeof v === 'number');
    return short ? value.map(cell).join('–') : value.map((v) => `\n  ${cell(v)}`).join('');
  }
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : value.toPrecision(4);
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .map(([k, v]) => `${k} ${cell(v)}`)
    .join(', ');
}

export function number(min: number, max = Number.POSITIVE_INFINITY): (raw: string) => number {
  const range = max === Number.POSITIVE_INFINITY ? `of at least ${min}` : `from ${min} to ${max}`;
  return (raw) => {
    const n = Number(raw);
    if (raw.trim() === '' || !(n >= min && n <= max)) throw new InvalidArgumentError(`It must be a number ${range}.`);
    return n;
  };
}

export function integer(min: number): (raw: string) => number {
  return (raw) => {
    const n = Number(raw);
    if (!Number.isSafeInteger(n) || n < min || raw.trim() === '')
      throw new InvalidArgumentError(`It must be an integer of at least ${min}.`);
    return n;
  };
}

export const integers = (min: number) => (raw: string) => raw.split(',').map(integer(min));

/** MIN,MAX. */
export function range(min: number): (raw: string) => [number, number] {
  return (raw) => {
    const [low, high, ...more] = integers(min)(raw);
    if (high === undefined || more.length > 0 || high < low!)
      throw new InvalidArgumentError('It must be two integers, the smaller first.');
    return [low!, high];
  };
}

export function oneOf<T extends string>(choices: readonly T[]): (raw: string) => T {
  return (raw) => {
    const found = choices.find((c) => c === raw);
    if (found === undefined) throw new InvalidArgumentError(`It must be one of ${choices.join(', ')}.`);
    return found;
  };
}

export function someOf(choices: readonly number[]): (raw: string) => number[] {
  return (raw) => {
    const given = raw.split(',').map(Number);
    if (!given.every((n) => choices.includes(n))) throw new InvalidArgumentError(`Choices: ${choices.join(', ')}.`);
    return given;
  };
}
