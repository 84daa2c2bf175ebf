// One engine in a process of its own: node worker.mjs ENGINE MODEL open|closed. What it is asked comes over IPC.
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { drawDocuments } from './draw.mjs';
import { cpuTime, createEngine, follow, No } from './engines.mjs';
import { openVocabulary } from './vocabulary.mjs';

const [name, model, undeclared] = process.argv.slice(2);
const vocabulary = openVocabulary(model);
const engine = await createEngine(name, vocabulary, undeclared === 'open');

/** { schema, documents: [text], draws, judge } → outcome, and what became of each document. */
async function group({ schema, documents, draws, judge }) {
  const started = cpuTime();
  let grammar;
  try {
    grammar = await engine.compile({ schema });
  } catch (e) {
    if (!(e instanceof No)) throw e;
    return { outcome: e.how, message: e.message, compileMs: (cpuTime() - started) / 1000, rssMiB: rss() };
  }
  const compileMs = (cpuTime() - started) / 1000;
  const times = [];
  const accepted = [];
  for (const text of documents) {
    accepted.push(await follow(engine, grammar, vocabulary.encode(text), vocabulary.ends, times, cpuTime));
  }
  const satisfies = draws > 0 ? judgeOf(schema, judge) : null;
  const drawn = satisfies ? await drawDocuments(engine, grammar, vocabulary, draws) : [];
  engine.release(grammar);
  const whole = drawn.filter((text) => text !== null);
  const wrong = whole.filter((text) => !satisfies(text));
  return { outcome: 'compiled', compileMs, rssMiB: rss(), accepted, times, drawn: whole.length, drawnWrong: wrong };
}

/** Drafts that Ajv knows. */
const judges = { draft7: Ajv, 'draft2020-12': Ajv2020 };

/** text → whether it satisfies the schema; null where Ajv cannot tell (references to other documents). */
function judgeOf(schema, draft) {
  try {
    const valid = new judges[draft]({ strict: false, validateFormats: false, ownProperties: true }).compile(schema);
    return (text) => {
      try {
        return valid(JSON.parse(text));
      } catch {
        return false; // not even JSON
      }
    };
  } catch {
    return null;
  }
}

const rss = () => process.memoryUsage().rss / 2 ** 20;

process.on('message', async (request) => {
  try {
    process.send(await group(request));
  } catch (e) {
    process.send({ outcome: 'failed', message: String(e?.message ?? e).slice(0, 500) });
  }
});
process.send({ ready: true });
