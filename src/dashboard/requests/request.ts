/** What GET /v1/requests tells, and the parts of it that are shown. Pure. */

/** Of a whole that is shown as a bar. */
export interface Part {
  key: string;
  size: number;
}

interface Choice {
  index: number;
  finish_reason: string;
  queue_ms: number;
  first_token_ms: number;
  total_ms: number;
  prompt_tokens: number;
  cached_tokens: number;
  restored_tokens: number;
  recomputed_tokens: number;
  completion_tokens: number;
  accepted_prediction_tokens: number;
}

export interface Request {
  id: string;
  route: string;
  model: string;
  session_id: string | null;
  stream: boolean;
  state: 'running' | 'finished' | 'failed';
  /** Seconds since the epoch. */
  created: number;
  duration_ms: number;
  error: string | null;
  choices: Choice[];
}

/**
 * Where the KV of the prompts came from, and what was generated. Cached: it was on the device. A request that was preempted
 * computes more again than its prompt has; what is beyond it is not of the prompt and not shown.
 */
export function tokensOf({ choices }: Pick<Request, 'choices'>): Part[] {
  const sum = (of: (c: Choice) => number): number => choices.reduce((n, c) => n + of(c), 0);
  const again = (c: Choice): number => Math.min(c.recomputed_tokens, c.prompt_tokens - c.cached_tokens);
  return [
    { key: 'cached', size: sum((c) => c.cached_tokens - c.restored_tokens) },
    { key: 'restored', size: sum((c) => c.restored_tokens) },
    { key: 'recomputed', size: sum(again) },
    { key: 'computed', size: sum((c) => c.prompt_tokens - c.cached_tokens - again(c)) },
    { key: 'generated', size: sum((c) => c.completion_tokens) },
  ];
}

/** Milliseconds. */
export function timesOf(c: Choice): Part[] {
  const first = c.completion_tokens > 0 ? c.first_token_ms : c.total_ms;
  return [
    { key: 'queue', size: Math.min(c.queue_ms, first) },
    { key: 'prefill', size: Math.max(0, first - c.queue_ms) },
    { key: 'decode', size: Math.max(0, c.total_ms - first) },
  ];
}
