// Share of the limit that binds a work, the machine's limits measured beside it.

/** int8 operations for prefill, bytes read for decode. Null where neither applies. */
export function shareOfLimit(limits, info, work, value) {
  if (!info || work.kind === 'load') return null;
  const { layers, dim, heads, kvHeads, headDim, ffDim, vocab } = info.dims;
  const kv = kvHeads * headDim;
  if (work.kind === 'prefill') {
    const matrices = layers * (dim * (heads * headDim + 2 * kv) + heads * headDim * dim + 3 * dim * ffDim);
    const context = work.before + work.prompt / 2;
    const perToken = 2 * matrices + 4 * layers * heads * headDim * context + (2 * vocab * dim) / work.prompt;
    return (value * perToken) / (limits.int8 * 1e9);
  }
  const steps = value / work.sequences;
  const kvRead = work.sequences * (work.prompt + work.tokens / 2) * info.memory.bytesPerToken;
  return (steps * (info.memory.weightBytes + kvRead)) / (limits.bandwidth * 1e9);
}
