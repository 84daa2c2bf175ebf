/** Which cores there are, as Linux tells: hardware threads of one core share what multiplies, so that each further one adds little. */
import fs from 'node:fs';
import path from 'node:path';

function read(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8').trim();
  } catch {
    return null;
  }
}

/** '0-2,5' → 0, 1, 2, 5 */
function numbers(list: string): number[] {
  return list.split(',').flatMap((part) => {
    const [first, last = first] = part.split('-').map(Number);
    return first! >= 0 && last! - first! < 1 << 16
      ? Array.from({ length: last! - first! + 1 }, (_, i) => first! + i)
      : [];
  });
}

/**
 * Cores of which this process may use at least one hardware thread, by its affinity (which a cgroup's cpuset limits). Null where the
 * system does not tell.
 * @param root where /proc and /sys lie
 */
export function allowedCores(root = '/'): number | null {
  const status = read(path.join(root, 'proc/self/status')) ?? '';
  const allowed = /^Cpus_allowed_list:\s*(\S+)/m.exec(status);
  if (!allowed) return null;
  const cores = new Set<string>();
  for (const cpu of numbers(allowed[1]!)) {
    const topology = path.join(root, `sys/devices/system/cpu/cpu${cpu}/topology`);
    // a CPU that is allowed but offline has no topology
    const siblings = read(path.join(topology, 'core_cpus_list')) ?? read(path.join(topology, 'thread_siblings_list'));
    if (siblings) cores.add(siblings);
  }
  return cores.size || null;
}
