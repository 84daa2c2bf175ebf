// Documents drawn from the masks alone, as a model without taste would write them.

/** A repeatable stream of numbers in [0, 1): mulberry32. */
function randomStream(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Tokens a document may have before it is given up (null). */
const MOST_TOKENS = 120;

/** @returns texts; null where a document did not end in time */
export async function drawDocuments(engine, grammar, vocabulary, count) {
  const out = [];
  for (let i = 0; i < count; i++) out.push(await draw(engine, grammar, vocabulary, randomStream(i + 1)));
  return out;
}

async function draw(engine, grammar, { table, ends, encode }, random) {
  const closing = ['"', '}', ']', '0', '1'].map((c) => encode(c)[0]);
  const document = await engine.open(grammar);
  const bytes = [];
  try {
    for (let n = 0; n < MOST_TOKENS; n++) {
      const mask = await document.mask();
      const allowed = (t) => ((mask[t >> 5] >>> (t & 31)) & 1) === 1;
      if (ends.some(allowed) && (n > 20 || random() < 0.5)) {
        return new TextDecoder().decode(Uint8Array.from(bytes));
      }
      const close = closing.filter(allowed);
      const token =
        close.length > 0 && random() < (n > 20 ? 0.7 : 0.35)
          ? close[Math.floor(random() * close.length)]
          : pick(mask, ends, random);
      if (token < 0) return new TextDecoder().decode(Uint8Array.from(bytes)); // nothing may come: a dead end
      document.accept(token);
      bytes.push(...table.bytes.subarray(table.offsets[token], table.offsets[token + 1]));
    }
    return null;
  } finally {
    document.close();
  }
}

/** One of the allowed tokens, each as likely; -1 if there is none. */
function pick(mask, ends, random) {
  const may = [];
  for (let w = 0; w < mask.length; w++) {
    for (let bits = mask[w]; bits !== 0; bits &= bits - 1) {
      const t = w * 32 + 31 - Math.clz32(bits & -bits);
      if (!ends.includes(t)) may.push(t);
    }
  }
  return may.length === 0 ? -1 : may[Math.floor(random() * may.length)];
}
