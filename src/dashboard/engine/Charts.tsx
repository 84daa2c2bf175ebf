/** Throughput and time to first token over the last two minutes. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { history, live } from '../live/connection.js';
import { ms, rate } from '../ui/format.js';
import { useStore } from '../ui/store.js';
import { colour, theme } from '../ui/theme.js';

const HEIGHT = 130;
const WINDOW_S = 120;

interface Line {
  label: string;
  /** Name of a colour of the style sheet. */
  colour: string;
  filled?: boolean;
  points?: boolean;
}

interface ChartProps {
  title: string;
  lines: Line[];
  data: () => uPlot.AlignedData;
  format: (n: number) => string;
  /** The scale reaches at least up to here. */
  least: number;
}

export function Charts() {
  return (
    <>
      <Chart
        title="Tokens a second"
        lines={[
          { label: 'generated', colour: '--chart-1', filled: true },
          { label: 'prompt', colour: '--chart-2' },
          { label: 'computed again', colour: '--chart-3' },
        ]}
        data={() => [history.time, history.generated, history.prefill, history.recomputed] as uPlot.AlignedData}
        format={rate}
        least={10}
      />
      <Chart
        title="Time to first token"
        lines={[{ label: 'mean of the requests that ended', colour: '--chart-4', points: true }]}
        data={() => [history.time, history.ttft] as uPlot.AlignedData}
        format={ms}
        least={100}
      />
    </>
  );
}

function Chart({ title, lines, data, format, least }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shade = useStore(theme);
  useStore(live);
  useEffect(() => {
    const element = box.current as HTMLDivElement;
    const u = new uPlot(options(element.clientWidth, { lines, format, least }), data(), element);
    plot.current = u;
    const observer = new ResizeObserver(() => u.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      u.destroy();
    };
    // colours are read when the plot is made
  }, [shade]);
  const count = history.time.length;
  const newest = history.time.at(-1);
  useEffect(() => plot.current?.setData(data()), [newest, count]);
  const last = (i: number): string => {
    const values = data()[i + 1] as (number | null)[];
    const v = values.findLast((x) => x !== null);
    return v === undefined || v === null ? '–' : format(v);
  };
  return (
    <section class="card chart" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <span class="keys">
          {lines.map((l, i) => (
            <span key={l.label}>
              <i class="swatch" style={{ background: `var(${l.colour})` }} /> {l.label} <b>{last(i)}</b>
            </span>
          ))}
        </span>
      </header>
      <div class="plot" ref={box} aria-hidden="true" />
    </section>
  );
}

function options(
  width: number,
  { lines, format, least }: Pick<ChartProps, 'lines' | 'format' | 'least'>,
): uPlot.Options {
  const axis = {
    stroke: colour('--muted'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui',
  };
  return {
    width: Math.max(50, width),
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 4, 0, 0],
    scales: {
      x: { range: () => [Date.now() / 1000 - WINDOW_S, Date.now() / 1000] },
      y: { range: (_u, _min, max) => [0, Math.max(least, (max ?? 0) * 1.15)] },
    },
    axes: [
      {
        ...axis,
        size: 22,
        space: 70,
        values: (_u, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB').slice(0, 8)),
      },
      { ...axis, size: 58, space: 32, values: (_u, ticks) => ticks.map((t) => (t === 0 ? '0' : format(t))) },
    ],
    series: [
      {},
      ...lines.map((l) => ({
        label: l.label,
        stroke: colour(l.colour),
        width: 1.75,
        spanGaps: l.points === true,
        points: l.points ? { show: true, size: 6, fill: colour(l.colour) } : { show: false },
        ...(l.filled ? { fill: `color-mix(in oklab, ${colour(l.colour)} 18%, transparent)` } : {}),
      })),
    ],
  };
}
