/** Numbers as people read them. */
export const integer = (n: number): string => Math.round(n).toLocaleString('en');

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  let v = n;
  while (v >= 1024 && i < units.length - 1) {
    v /= 1024;
    i++;
  }
  return `${v >= 100 || i === 0 ? v.toFixed(0) : v.toFixed(1)} ${units[i]}`;
}

export const ms = (n: number): string =>
  n < 1000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(n < 10_000 ? 2 : 1)} s`;

export const rate = (n: number): string => (n >= 100 ? integer(n) : n.toFixed(1));

export const percent = (part: number, whole: number): string =>
  whole === 0 ? '–' : `${Math.round((100 * part) / whole)}%`;

export const short = (n: number): string =>
  n >= 1e9 ? `${(n / 1e9).toFixed(1)} B` : n >= 1e6 ? `${(n / 1e6).toFixed(0)} M` : integer(n);

export const clock = (at: number): string => new Date(at).toLocaleTimeString('en-GB');

/** How long ago it was, in a few words. */
export function ago(at: number, now = Date.now()): string {
  const s = Math.max(0, (now - at) / 1000);
  if (s < 10) return 'just now';
  if (s < 90) return `${Math.round(s)} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 129_600) return `${Math.round(s / 3600)} h ago`;
  return new Date(at).toLocaleDateString('en-GB');
}

/** At most five characters. */
export const compact = (n: number): string =>
  n < 100_000 ? integer(n) : Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 }).format(n);
