/** longmind doctor: what this machine can compute with, and what is missing. */
import type { Command } from 'commander';
import { hubOptions } from '../../index.js';
import { type Context, JSON_FLAG, newCommand } from '../context.js';
import { addTable, given } from '../options.js';
import { table } from '../terminal.js';

export function doctorCommand(context: Context): Command {
  const { terminal, library } = context;
  const command = newCommand('doctor', 'Say which devices are there, and what is missing', ['doctor', 'doctor --json']);
  command.option(...JSON_FLAG);
  addTable(command, hubOptions, 'Folders:', ['offline']);
  return command.action(async () => {
    const findings = library.examineDevices({ cacheDir: '', ...given(command, hubOptions) });
    if (terminal.json) terminal.value(findings);
    else terminal.line(table(findings.map((f) => [f.device, f.ok ? 'ok' : 'MISSING', f.what, f.detail])));
  });
}
