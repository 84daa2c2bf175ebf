// What is measured, the same for all sides. One process of each side loads the model, prepares (the tokens `before`, for
// decode the prompts), warms up, and then repeats the measured part each time it is told to: run.mjs lets them take turns.
/**
 * kind; tokens in the context before; prompt; tokens to generate; sequences at once.
 * prefill: the prompt is measured. decode: the prompts are prepared, the generated tokens are measured, all sequences at once.
 * load: a new process each time, from its start to the first token.
 */
export const works = {
  prefill512: { kind: 'prefill', before: 0, prompt: 512, tokens: 1, sequences: 1, context: 4096, unit: 'tok/s' },
  decode1: { kind: 'decode', before: 0, prompt: 512, tokens: 64, sequences: 1, context: 4096, unit: 'tok/s' },
  decode16: { kind: 'decode', before: 0, prompt: 32, tokens: 32, sequences: 16, context: 512, unit: 'tok/s' },
  deep: { kind: 'prefill', before: 7680, prompt: 512, tokens: 1, sequences: 1, context: 8192 + 64, unit: 'tok/s' },
  load: { kind: 'load', before: 0, prompt: 16, tokens: 1, sequences: 1, context: 4096, unit: 'ms' },
};

/** Token ids that hit no special token of the models used; different for each repetition and sequence: nothing is cached. */
export function promptIds(count, rep, sequence) {
  return Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + rep * 131 + sequence * 1543) % 40000));
}

/** Answers each line 'go' on stdin with one measured value; ends with the input. Say `ready` first. */
export async function serve(measure, ready) {
  const say = (m) => process.stdout.write(`${JSON.stringify(m)}\n`);
  say({ ready: true, ...ready });
  const { createInterface } = await import('node:readline');
  let rep = 1;
  for await (const line of createInterface({ input: process.stdin }))
    if (line === 'go') say({ value: await measure(rep++) });
}
