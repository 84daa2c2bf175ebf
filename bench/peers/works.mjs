// What is measured, the same for both sides.
/** kind; tokens already in the context; prompt; tokens to generate; sequences at once; repetitions inside one process. */
export const works = {
  prefill512: {
    kind: 'prefill',
    before: 0,
    prompt: 512,
    tokens: 1,
    sequences: 1,
    context: 4096,
    reps: 3,
    unit: 'tok/s',
  },
  decode1: { kind: 'decode', before: 0, prompt: 512, tokens: 64, sequences: 1, context: 4096, reps: 3, unit: 'tok/s' },
  decode16: { kind: 'decode', before: 0, prompt: 32, tokens: 32, sequences: 16, context: 512, reps: 2, unit: 'tok/s' },
  deep: {
    kind: 'prefill',
    before: 7680,
    prompt: 512,
    tokens: 1,
    sequences: 1,
    context: 8192 + 64,
    reps: 1,
    unit: 'tok/s',
  },
  load: { kind: 'load', before: 0, prompt: 16, tokens: 1, sequences: 1, context: 4096, reps: 1, unit: 'ms' },
};

/** Token ids that hit no special token of the models used; different for each repetition and sequence: nothing is cached. */
export function promptIds(count, rep, sequence) {
  return Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + rep * 131 + sequence * 1543) % 40000));
}
