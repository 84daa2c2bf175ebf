/**
 * Traces for judging eviction rules: recorded ones, sessions made of recorded arrivals (azure), and made ones. Blocks of 512
 * tokens in the Mooncake ones, of 64 in all others.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { uniform, zipf } from '../../dist/src/bench/random.js';
import { planLoad } from '../../dist/src/bench/sessions/load.js';
import { readTrace } from '../../dist/src/bench/trace-formats.js';

const T = `${process.argv[2]}/`;

/** texts: list of {time, chain, keepTokens?, length}: growing sessions; builds a Trace with blocks of blockLen. */
class Builder {
  trace = { format: 'made', chains: 0, requests: [], blocks: 0, accesses: 0 };
  len = [];
  chain() {
    this.len.push(0);
    return this.trace.chains++;
  }
  /** chain has text of `blocks` full blocks at this request */
  request(chain, blocks, time) {
    const keep = this.len[chain];
    const n = Math.max(0, blocks - keep);
    const first = this.trace.blocks;
    this.trace.blocks += n;
    const ids = Int32Array.from({ length: n }, (_, i) => first + i);
    this.len[chain] = keep + n;
    this.trace.requests.push({ chain, keep, ids, time });
    this.trace.accesses += keep + n;
  }
}
const normal = (r) => Math.sqrt(-2 * Math.log(1 - r())) * Math.cos(2 * Math.PI * r());

export function azure(seed, block = 64) {
  const lines = readFileSync(T + 'azure2023_conv.csv', 'utf8')
    .trim()
    .split('\n')
    .slice(1);
  const rows = lines.map((l) => {
    const [t, c, g] = l.split(',');
    return { t: Date.parse(t.trim().replace(' ', 'T').slice(0, 23) + 'Z') / 1000, c: +c, g: +g };
  });
  rows.sort((a, b) => a.t - b.t);
  const r = uniform(seed);
  const b = new Builder();
  let open = [];
  for (const { t, c, g } of rows) {
    open = open.filter((s) => t - s.t < 1800);
    // weight: density of a lognormal pause (median 60 s)
    let sum = 0.02;
    const w = [];
    for (const s of open) {
      const more = c - s.len,
        pause = t - s.t;
      let x = 0;
      if (more >= 4 && more <= 400 && pause > 3) {
        const z = Math.log(pause / 60);
        x = (Math.exp((-z * z) / 2) / pause) * Math.exp(-more / 100);
      }
      w.push(x);
      sum += x;
    }
    let x = r() * sum - 0.02,
      i = -1;
    if (x >= 0) for (i = 0; i < w.length - 1 && x >= w[i]; i++) x -= w[i];
    const s = i < 0 ? { chain: b.chain() } : open[i];
    if (i < 0) open.push(s);
    b.request(s.chain, Math.floor(c / block), t);
    s.len = c + g;
    s.t = t + g * 0.03;
  }
  return b.trace;
}

export function load(arrivals, seed, sessions = 400, turns = 20) {
  const plan = planLoad(
    { sessions, turns, arrivals, clients: 1, rate: 0, said: [30, 200], answered: 100, seed },
    4096,
    new Int32Array(1000),
  );
  const b = new Builder();
  const chain = [];
  plan.turns.forEach((t, i) => {
    if (t.number === 1) chain[t.session] = b.chain();
    b.request(chain[t.session], Math.floor((t.history + t.said.length) / 64), i);
  });
  return b.trace;
}

/** People: sessions begin at random; geometric number of turns that differs between people; pauses lognormal. */
export function chats(seed, { sessions = 3000 } = {}) {
  const r = uniform(seed);
  const events = [];
  for (let s = 0; s < sessions; s++) {
    let t = r() * 7200,
      len = 0;
    const p = r() < 0.5 ? 0.15 : 0.85;
    do {
      len += Math.exp(5.3 + normal(r));
      events.push({ s, t, len });
      len += Math.exp(5.5 + 0.7 * normal(r));
      t += Math.exp(4.2 + 1.2 * normal(r));
    } while (r() < p && len < 30000);
  }
  events.sort((a, b) => a.t - b.t);
  const b = new Builder(),
    chain = [];
  for (const e of events) {
    chain[e.s] ??= b.chain();
    b.request(chain[e.s], Math.max(1, Math.floor(e.len / 64)), e.t);
  }
  return b.trace;
}

/** Questions about documents: a document chosen by Zipf (shifting), a private end. mooncake form */
export function documents(seed, n = 8000) {
  const r = uniform(seed);
  const draw = zipf(500, 0.9, r);
  const trace = { format: 'made', chains: 0, requests: [], blocks: 0, accesses: 0 };
  const docs = [];
  for (let i = 0; i < n; i++) {
    const d = (draw() + Math.floor(i / 40)) % 2000;
    if (!docs[d]) {
      const k = 5 + Math.floor(Math.exp(3 + normal(r)));
      docs[d] = Array.from({ length: k }, () => trace.blocks++);
    }
    const ids = [...docs[d]];
    for (let k = 1 + Math.floor(r() * 6); k > 0; k--) ids.push(trace.blocks++);
    trace.requests.push({ chain: -1, keep: 0, ids: Int32Array.from(ids), time: i });
    trace.accesses += ids.length;
  }
  return trace;
}
/** one-shot scans over a set of loyal sessions */
export function scans(seed) {
  const r = uniform(seed),
    b = new Builder();
  const loyal = Array.from({ length: 60 }, () => ({ c: b.chain(), len: 20 }));
  for (let i = 0; i < 8000; i++) {
    if (r() < 0.5) b.request(b.chain(), 10 + Math.floor(r() * 40), i);
    else {
      const s = loyal[Math.floor(r() * loyal.length)];
      if (s.len > 120) {
        s.c = b.chain();
        s.len = 10;
      }
      s.len += 1 + Math.floor(r() * 4);
      b.request(s.c, s.len, i);
    }
  }
  return b.trace;
}

/** Every of-th session, unpacked beside the packed file, at the density of 692 in 24 hours. */
function subset(k, of, seed) {
  const f = `${tmpdir()}/claude-${k}-of-${of}.jsonl`;
  const all = execFileSync('xz', ['-dc', `${T}claude_code_sessions.jsonl.xz`], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  writeFileSync(
    f,
    all
      .split('\n')
      .filter((l, i) => l && i % of === k)
      .join('\n'),
  );
  return readTrace(f, { windowHours: 24 / of, seed });
}

const moon = () => readTrace(T + 'mooncake_conversation_trace.jsonl', { windowHours: 24, seed: 1 });
export const makers = {
  moon,
  'moon-syn': () => readTrace(T + 'mooncake_synthetic_trace.jsonl', { windowHours: 24, seed: 1 }),
  'code-0': () => subset(0, 8, 1),
  'code-1': () => subset(1, 8, 2),
  'code-2': () => subset(2, 8, 3),
  'azure-1': () => azure(1),
  'azure-2': () => azure(2),
  zipf: () => load('zipf', 1),
  uniform: () => load('uniform', 1),
  robin: () => load('round-robin', 1),
  chats: () => chats(1),
  docs: () => documents(1),
  scans: () => scans(1),
};
