/** longmind doctor: what this machine can compute with, and what is missing. */
import type { Command } from 'commander';
import { engineOptions, errors, type Finding, hubOptions } from '../../index.js';
import { type Context, JSON_FLAG, newCommand } from '../context.js';
import { addTable, given } from '../options.js';
import { table } from '../terminal.js';

export function doctorCommand(context: Context): Command {
  const { terminal, library } = context;
  const command = newCommand('doctor', 'Say which devices are there, and what is missing', [
    'doctor',
    'doctor --json',
    'doctor --session-store redis://127.0.0.1:6379',
  ]);
  command.option(...JSON_FLAG);
  addTable(command, hubOptions, 'Folders:', ['offline']);
  addTable(command, { sessionStore: engineOptions.sessionStore }, 'Sessions:');
  return command.action(async () => {
    const { sessionStore } = given(command, engineOptions);
    const findings = library.examineDevices({ cacheDir: '', ...given(command, hubOptions) });
    if (sessionStore) findings.push(await examine(context, sessionStore as string));
    if (terminal.json) terminal.value(findings);
    else terminal.line(table(findings.map((f) => [f.device, f.ok ? 'ok' : 'MISSING', f.what, f.detail])));
  });
}

async function examine({ library }: Context, store: string): Promise<Finding> {
  const address = library.storeAddress(store);
  if (address === null)
    throw errors.invalidOption('sessionStore', store, 'an address: redis://…, postgres://…, or @FILE with one');
  return { device: 'store', what: 'sessions', ...(await library.examineStore(address)) };
}
