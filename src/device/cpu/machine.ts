/** What the machine can give: threads within affinity and cgroup quota, memory within the cgroup limit. */
import fs from 'node:fs';
import os from 'node:os';
import type { MemoryLevel } from '../../base/memory-promises.js';
import { allowedCores } from './cores.js';

function read(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8').trim();
  } catch {
    return null;
  }
}

/** Folders of a process's cgroup for a controller, innermost first, up to the mount's root. */
function cgroupFolders(controller: string, pid: number | 'self' = 'self'): string[] {
  const folders: string[] = [];
  for (const line of (read(`/proc/${pid}/cgroup`) ?? '').split('\n')) {
    const [, names, own] = line.split(':', 3);
    if (own === undefined) continue;
    const v2 = names === '';
    if (!v2 && !names.split(',').includes(controller)) continue;
    const roots = v2
      ? ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']
      : [`/sys/fs/cgroup/${controller}`, `/sys/fs/cgroup/${names}`];
    for (const root of roots) {
      let part = own;
      for (;;) {
        folders.push(root + (part === '/' ? '' : part));
        if (part === '/' || part === '') break;
        part = part.slice(0, part.lastIndexOf('/')) || '/';
      }
    }
  }
  return folders;
}

/** CPUs by quota; Infinity where none is set. */
export function cpuQuota(): number {
  let quota = Number.POSITIVE_INFINITY;
  for (const folder of cgroupFolders('cpu')) {
    const v2 = read(`${folder}/cpu.max`)?.split(' ');
    const [limit, period] = v2 ?? [
      read(`${folder}/cpu.cfs_quota_us`) ?? 'max',
      read(`${folder}/cpu.cfs_period_us`) ?? '100000',
    ];
    if (limit !== 'max' && Number(limit) > 0) quota = Math.min(quota, Number(limit) / Number(period));
  }
  return quota;
}

/** Threads to use by default: one for each core this process may run on, no more than the quota rounded up. */
export function defaultThreads(): number {
  const cores = allowedCores() ?? os.availableParallelism();
  return Math.max(1, Math.min(cores, Math.ceil(cpuQuota()), 256));
}

/** Bytes available now: MemAvailable, within every cgroup limit above this process. */
export function memoryFree(): number {
  return Math.min(...memoryLevels().map((level) => level.free));
}

/** MemAvailable, and what each cgroup limit above this process leaves. */
export function memoryLevels(): MemoryLevel[] {
  const available = /^MemAvailable:\s+(\d+) kB/m.exec(read('/proc/meminfo') ?? '');
  const free = available ? Number(available[1]) * 1024 : os.freemem();
  const levels: MemoryLevel[] = [{ free, holds: () => true }];
  for (const folder of cgroupFolders('memory')) {
    const limit = Number(read(`${folder}/memory.max`) ?? read(`${folder}/memory.limit_in_bytes`) ?? Number.NaN);
    const used = Number(read(`${folder}/memory.current`) ?? read(`${folder}/memory.usage_in_bytes`) ?? Number.NaN);
    if (!(limit < 2 ** 60) || Number.isNaN(used)) continue;
    // page cache counts as used, but the kernel drops it on demand
    const cache = /^inactive_file (\d+)/m.exec(read(`${folder}/memory.stat`) ?? '');
    levels.push({
      free: Math.max(0, limit - used + (cache ? Number(cache[1]) : 0)),
      holds: (pid) => cgroupFolders('memory', pid).includes(folder),
    });
  }
  return levels;
}
