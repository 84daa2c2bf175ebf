/**
 * Which process wrote a file, and whether it still lives. A process is known by its number and its start time, since numbers
 * are used again (in a container it is always 1), and by where such a number means something.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

export interface ProcessIdentity {
  pid: number;
  /** Start time of the process, '' where the system does not tell. */
  start: string;
  /** Where `pid` means something. */
  where: string;
}

export function thisProcess(): ProcessIdentity {
  return { pid: process.pid, start: startOf(process.pid) ?? '', where: placeOfProcesses() };
}

/** From JSON that begins with it, as `thisProcess()` is written; null: it is none. */
export function parseIdentity(content: string): ProcessIdentity | null {
  try {
    const { pid, start, where } = JSON.parse(content) as Partial<ProcessIdentity>;
    return Number.isInteger(pid) && typeof start === 'string' && typeof where === 'string'
      ? { pid: pid!, start, where }
      : null;
  } catch {
    return null;
  }
}

/** Of a process of this place (`where`): it has not ended. */
export function lives({ pid, start }: ProcessIdentity): boolean {
  return startOf(pid) === start;
}

/** Names the boot and the process name space, in which a process number means something. */
export function placeOfProcesses(): string {
  if (!isLinux()) return hostname();
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return hostname();
  }
}

/** Start time of a living process, '' if that cannot be told, null if there is none. */
function startOf(pid: number): string | null {
  try {
    // the name, in brackets, may contain anything; after it come state (field 3) … start time (field 22)
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? null : fields[19]!;
  } catch {
    return isLinux() ? null : answers(pid) ? '' : null;
  }
}

function answers(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function isLinux(): boolean {
  return process.platform === 'linux';
}
