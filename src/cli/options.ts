/** Command-line options made from the tables of config.ts. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type CacheSize, flagName, formatBytes, type OptionSpec } from '../index.js';

type OptionTable = Readonly<Record<string, OptionSpec<unknown>>>;

/** Adds one option per entry, in the table's order. `omit`: names that make no sense for this command. */
export function addTable(command: Command, table: OptionTable, heading: string, omit: readonly string[] = []): Command {
  for (const [name, spec] of Object.entries(table)) {
    if (omit.includes(name)) continue;
    command.addOption(toOption(name, spec).helpGroup(heading));
  }
  return command;
}

function toOption(name: string, spec: OptionSpec<unknown>): Option {
  const flag = flagName(name);
  if (typeof spec.default === 'boolean' && spec.value === undefined) {
    const off = spec.default ? flag.replace('--', '--no-') : flag;
    return new Option(off, spec.default ? `do not ${spec.help}` : spec.help);
  }
  const shown = showDefault(spec.default);
  const option = new Option(
    `${flag} <${spec.value ?? 'VALUE'}>`,
    shown ? `${spec.help} (default: ${shown})` : spec.help,
  );
  const many = Array.isArray(spec.default);
  return option.argParser((raw: string, previous: unknown) => {
    const parsed = spec.parse(spec.schema?.type === 'array' ? raw.split(',').map(Number) : raw);
    if (parsed === undefined) throw new InvalidArgumentError(`It must be ${spec.expected}.`);
    // a list option may be given several times
    return many && Array.isArray(previous) ? [...previous, ...(parsed as unknown[])] : parsed;
  });
}

function showDefault(value: unknown): string {
  if (value === null || value === '' || value === 0 || (Array.isArray(value) && value.length === 0)) return '';
  if (typeof value === 'object' && 'kind' in value) return showCacheSize(value as CacheSize);
  return String(value);
}

function showCacheSize(size: CacheSize): string {
  if (size.kind === 'share') return String(size.share);
  return size.kind === 'blocks' ? String(size.blocks) : formatBytes(size.bytes);
}

/** The options of a table that were given on the command line; the rest take their defaults further down. */
export function given(command: Command, ...tables: OptionTable[]): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const table of tables) {
    for (const name of Object.keys(table)) {
      if (command.getOptionValueSource(name) === 'cli') out[name] = command.getOptionValue(name);
    }
  }
  return out;
}
