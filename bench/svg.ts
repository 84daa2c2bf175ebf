/** Line charts as SVG: enough for the benchmarks, no library. */
export interface Chart {
  title: string;
  x: string;
  y: string;
  logX?: boolean;
  series: { name: string; points: [number, number][]; dashed?: boolean }[];
}

const WIDTH = 640;
const HEIGHT = 400;
const LEFT = 60;
const RIGHT = 150;
const TOP = 40;
const BOTTOM = 50;
const COLORS = ['#1f6feb', '#d1242f', '#1a7f37', '#9a6700', '#8250df', '#57606a'];

export function lineChart({ title, x, y, logX = false, series }: Chart): string {
  const all = series.flatMap((s) => s.points);
  const scale = (v: number) => (logX ? Math.log10(v) : v);
  const xs = all.map((p) => scale(p[0]));
  const low = Math.min(...xs);
  const high = Math.max(...xs);
  const top = niceCeiling(Math.max(...all.map((p) => p[1])));
  const px = (v: number) => LEFT + ((scale(v) - low) / (high - low || 1)) * (WIDTH - LEFT - RIGHT);
  const py = (v: number) => HEIGHT - BOTTOM - (v / top) * (HEIGHT - TOP - BOTTOM);
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(WIDTH / 2, 22, title, 'middle', 15),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x, 'middle'),
    `<text x="16" y="${HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 ${HEIGHT / 2})">${escapeText(y)}</text>`,
  ];
  for (let i = 0; i <= 5; i++) {
    const v = (top * i) / 5;
    out.push(`<path d="M${LEFT} ${py(v).toFixed(1)}H${WIDTH - RIGHT}" stroke="#d0d7de"/>`);
    out.push(text(LEFT - 6, py(v) + 4, short(v), 'end'));
  }
  for (const v of new Set(all.map((p) => p[0]))) out.push(text(px(v), HEIGHT - BOTTOM + 18, short(v), 'middle'));
  series.forEach((s, i) => {
    const color = COLORS[i % COLORS.length]!;
    const path = s.points.map((p, k) => `${k ? 'L' : 'M'}${px(p[0]).toFixed(1)} ${py(p[1]).toFixed(1)}`).join('');
    const dash = s.dashed ? ' stroke-dasharray="6 4"' : '';
    out.push(`<path d="${path}" fill="none" stroke="${color}" stroke-width="2"${dash}/>`);
    for (const p of s.points)
      out.push(`<circle cx="${px(p[0]).toFixed(1)}" cy="${py(p[1]).toFixed(1)}" r="3" fill="${color}"/>`);
    const at = TOP + 14 + 20 * i;
    out.push(`<path d="M${WIDTH - RIGHT + 16} ${at}h20" stroke="${color}" stroke-width="2"${dash}/>`);
    out.push(text(WIDTH - RIGHT + 42, at + 4, s.name, 'start'));
  });
  return `${out.join('\n')}\n</svg>\n`;
}

function text(x: number, y: number, s: string, anchor: string, size = 12): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" font-size="${size}">${escapeText(s)}</text>`;
}

function escapeText(s: string): string {
  return s.replace(/&/g, '&amp;').replace(/</g, '&lt;');
}

function niceCeiling(v: number): number {
  const unit = 10 ** Math.floor(Math.log10(v || 1));
  return [1, 2, 2.5, 5, 10].map((m) => m * unit).find((m) => m >= v) ?? v;
}

function short(v: number): string {
  if (v >= 1e6) return `${+(v / 1e6).toFixed(1)}M`;
  if (v >= 1e4) return `${+(v / 1e3).toFixed(1)}k`;
  return `${+v.toFixed(2)}`;
}
