// Time of compiling and of masks on the cases of bench/grammar-cases.ts, both engines in turn in one process.
import { grammarCases } from '../../dist/bench/grammar-cases.js';
import { cpuTime, createEngine, follow, wallTime } from './engines.mjs';
import { at } from './table.mjs';

/** The same work of both sides, in turns; of each piece the shortest time, so that what the machine does beside is left out. */
const TURNS = 4;
/** An engine that takes longer to compile a schema, milliseconds, has one turn only. */
const PATIENCE = 10_000;

/** Strings with a length or pattern hold no escapes in the peer's language; documents without any are compared. */
const withoutEscapes = (text) => text.replaceAll(/\\(u[0-9a-f]{4}|.)/g, '');

export async function runSpeed(vocabulary) {
  const engines = {};
  for (const name of ['ours', 'peer']) engines[name] = await createEngine(name, vocabulary, false);
  const rows = [];
  for (const { name, source, documents } of grammarCases) {
    const ids = documents.map((text) => vocabulary.encode(withoutEscapes(text)));
    const best = {};
    for (let turn = 0; turn < TURNS; turn++) {
      for (const [side, engine] of Object.entries(engines)) {
        if (best[side]?.compileMs > PATIENCE) continue;
        const times = await onePass(engine, source, ids, vocabulary.ends);
        best[side] = best[side] ? shortest(best[side], times) : times;
      }
    }
    const escaped = {};
    for (const [side, engine] of Object.entries(engines)) {
      if (best[side].compileMs > PATIENCE) continue;
      escaped[side] = await acceptedOf(engine, source, documents, vocabulary);
    }
    rows.push({ name, tokens: best.ours.first.length, ours: summary(best.ours), peer: summary(best.peer), escaped });
  }
  return rows;
}

/** How many of the documents, as they are, go through. */
async function acceptedOf(engine, source, documents, { encode, ends }) {
  const grammar = await engine.compile(source);
  let accepted = 0;
  for (const text of documents) if (await follow(engine, grammar, encode(text), ends, [], wallTime)) accepted++;
  engine.release(grammar);
  return accepted;
}

/** Compiles anew, follows all documents (first), and once more (warm). */
async function onePass(engine, source, documents, ends) {
  const started = cpuTime();
  const grammar = await engine.compile(source);
  const compileMs = (cpuTime() - started) / 1000;
  const first = [];
  const warm = [];
  const accepted = [];
  for (const ids of documents) accepted.push(await follow(engine, grammar, ids, ends, first, cpuTime));
  for (const ids of documents) await follow(engine, grammar, ids, ends, warm, wallTime);
  engine.release(grammar);
  return { compileMs, first, warm, accepted };
}

function shortest(a, b) {
  const least = (x, y) => x.map((t, i) => Math.min(t, y[i]));
  return {
    compileMs: Math.min(a.compileMs, b.compileMs),
    first: least(a.first, b.first),
    warm: least(a.warm, b.warm),
    accepted: a.accepted,
  };
}

function summary({ compileMs, first, warm, accepted }) {
  const quantiles = (list) => {
    const sorted = [...list].sort((a, b) => a - b);
    return { p50: at(sorted, 0.5), p99: at(sorted, 0.99), max: at(sorted, 1) };
  };
  return {
    compileMs,
    accepted: accepted.filter(Boolean).length,
    documents: accepted.length,
    firstUs: quantiles(first),
    warmUs: quantiles(warm),
  };
}
