/** What /metrics says: the server's own counts and times, and the engine's statistics at scrape time. */
import type { EngineInfo, EngineStats, GenerationResult, StoreStats, Usage } from '../index.js';
import { Counter, Histogram, histogramText, sample } from './metrics.js';
import type { Tracing } from './tracing/tracing.js';

/** Seconds. */
const LONG = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const SHORT = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export class ServerMetrics {
  readonly httpRequests = new Counter('longmind_http_requests_total', 'HTTP requests by route and status.');
  readonly generations = new Counter('longmind_generations_total', 'Generations by endpoint and how they ended.');
  readonly queue = new Histogram('longmind_queue_seconds', 'Arrival in the engine to admission.', LONG);
  readonly ttft = new Histogram('longmind_time_to_first_token_seconds', 'Arrival to first token.', LONG);
  readonly interToken = new Histogram('longmind_inter_token_seconds', 'Time between tokens of a stream.', SHORT);
  readonly endToEnd = new Histogram('longmind_request_seconds', 'Arrival to last token.', LONG);

  readonly tokens = new Counter('longmind_http_tokens_total', 'Tokens by endpoint: in, of them cached, out.');

  finished(result: GenerationResult, streamed: boolean, endpoint: string): void {
    this.generations.inc({ endpoint, outcome: result.finishReason });
    this.tokens.inc({ endpoint, kind: 'prompt' }, result.usage.promptTokens);
    this.tokens.inc({ endpoint, kind: 'cached' }, result.usage.cachedTokens);
    this.tokens.inc({ endpoint, kind: 'generated' }, result.usage.completionTokens);
    if (result.usage.promptTokens > 0) this.queue.observe(result.timings.queue / 1000);
    if (result.usage.completionTokens > 0) this.ttft.observe(result.timings.ttft / 1000);
    this.endToEnd.observe(result.timings.total / 1000);
    // a stream's gaps were observed one by one
    if (!streamed && result.usage.completionTokens > 1)
      this.interToken.observe(result.timings.perToken / 1000, result.usage.completionTokens - 1);
  }

  embedded(usage: Usage, endpoint: string): void {
    this.generations.inc({ endpoint, outcome: 'embedding' });
    this.tokens.inc({ endpoint, kind: 'prompt' }, usage.promptTokens);
    this.tokens.inc({ endpoint, kind: 'cached' }, usage.cachedTokens);
  }

  failed(endpoint: string): void {
    this.generations.inc({ endpoint, outcome: 'error' });
  }

  render(info: EngineInfo, stats: EngineStats | null, inFlight: number, traces: Tracing['counts'] | null): string {
    return [
      this.httpRequests.render(),
      this.generations.render(),
      this.tokens.render(),
      this.queue.render(),
      this.ttft.render(),
      this.interToken.render(),
      this.endToEnd.render(),
      sample('longmind_http_generations_in_flight', 'Generations that HTTP clients wait for.', 'gauge', [
        [{}, inFlight],
      ]),
      sample('longmind_up', 'Whether the engine answers.', 'gauge', [[{}, stats ? 1 : 0]]),
      memory(info),
      traces
        ? sample('longmind_trace_spans_total', 'Spans sent to the OpenTelemetry collector, or lost.', 'counter', [
            [{ outcome: 'exported' }, traces.exported],
            [{ outcome: 'failed' }, traces.failed],
          ])
        : '',
      stats ? engine(stats) : '',
      sample('process_resident_memory_bytes', 'Resident set of the process.', 'gauge', [
        [{}, process.memoryUsage.rss()],
      ]),
    ].join('');
  }
}

function memory(info: EngineInfo): string {
  const m = info.memory;
  return sample('longmind_memory_bytes', 'The three parts of device memory.', 'gauge', [
    [{ part: 'weights' }, m.weightBytes],
    [{ part: 'kv_cache' }, m.kvBytes],
    [{ part: 'workspace' }, m.workspaceBytes],
  ]);
}

function engine(s: EngineStats): string {
  const c = s.cache;
  const count = (name: string, help: string, value: number) =>
    sample(`longmind_${name}`, help, 'counter', [[{}, value]]);
  const gauge = (name: string, help: string, value: number) => sample(`longmind_${name}`, help, 'gauge', [[{}, value]]);
  return [
    sample('longmind_requests', 'Requests in the engine by state.', 'gauge', [
      [{ state: 'waiting' }, s.requests.waiting],
      [{ state: 'running' }, s.requests.running],
    ]),
    sample('longmind_requests_total', 'Requests by outcome.', 'counter', [
      [{ outcome: 'finished' }, s.requests.finished],
      [{ outcome: 'aborted' }, s.requests.aborted],
      [{ outcome: 'failed' }, s.requests.failed],
    ]),
    sample('longmind_tokens_total', 'Tokens: in, of them cached, out, computed again after eviction.', 'counter', [
      [{ kind: 'prompt' }, s.tokens.prompt],
      [{ kind: 'cached' }, s.tokens.cached],
      [{ kind: 'generated' }, s.tokens.generated],
      [{ kind: 'recomputed' }, s.tokens.recomputed],
    ]),
    count('draft_tokens_total', 'Guessed tokens that were verified.', s.drafts.verified),
    count('draft_tokens_accepted_total', 'Of them, the ones that were right.', s.drafts.accepted),
    count(
      'draft_model_tokens_total',
      'Guesses of the draft model that were verified.',
      s.drafts.byModel?.verified ?? 0,
    ),
    count('draft_model_tokens_accepted_total', 'Of them, the ones that were right.', s.drafts.byModel?.accepted ?? 0),
    count('tokens_restored_total', 'Tokens whose KV came back from a place below the device.', c.tokensRestored),
    sample('longmind_kv_copies', 'KV blocks kept, by place.', 'gauge', [
      [{ place: 'device' }, c.blocks.cached + c.blocks.active],
      [{ place: 'host' }, c.tiers?.host.used ?? 0],
      [{ place: 'disk' }, c.tiers?.disk.used ?? 0],
    ]),
    count('steps_total', 'Steps of the persistent batch.', s.steps),
    count('preemptions_total', 'Active sequences that gave up their blocks.', s.preemptions),
    stepTimes(s),
    gauge('last_step_seconds', 'Duration of the last step.', s.lastStepMs / 1000),
    gauge('last_step_js_seconds', 'JavaScript in the last step.', s.lastStepJsMs / 1000),
    gauge('step_budget_tokens', 'Tokens that one step may hold.', s.stepBudget),
    gauge('batch_size', 'Sequences in the batch.', s.requests.running),
    sample('longmind_sessions', 'Sessions kept, by state.', 'gauge', [
      [{ state: 'active' }, s.sessionStates.active],
      [{ state: 'cached' }, s.sessionStates.cached],
      [{ state: 'evicted' }, s.sessionStates.evicted],
    ]),
    sample('longmind_kv_blocks', 'KV blocks by state.', 'gauge', [
      [{ state: 'free' }, c.blocks.free],
      [{ state: 'cached' }, c.blocks.cached],
      [{ state: 'active' }, c.blocks.active],
    ]),
    sample('longmind_sequences', 'Sequences by state.', 'gauge', [
      [{ state: 'active' }, c.sequences.active],
      [{ state: 'cached' }, c.sequences.cached],
      [{ state: 'evicted' }, c.sequences.evicted],
    ]),
    gauge(
      'session_store_failed',
      'Whether the session store is not written at the moment.',
      s.sessionStoreFailure === null ? 0 : 1,
    ),
    s.store ? store(s.store) : '',
    gauge('tokens_kept', 'Token ids kept for all sequences.', c.tokensKept),
    sample('longmind_cache_lookups_total', 'Lookups of a sequence by what was still cached.', 'counter', [
      [{ result: 'hit' }, c.hits],
      [{ result: 'partial' }, c.partialHits],
      [{ result: 'miss' }, c.misses],
    ]),
    count('cache_tokens_reused_total', 'Tokens whose KV was still cached.', c.tokensReused),
    count('cache_tokens_prefix_reused_total', 'Of them, found through the prefix index.', c.tokensPrefixReused),
    count('cache_tokens_computed_total', 'Tokens computed.', c.tokensComputed),
    count('cache_blocks_evicted_total', 'Blocks evicted.', c.blocksEvicted),
    count('cache_tokens_evicted_total', 'Tokens whose KV was evicted.', c.tokensEvicted),
    count('cache_forks_total', 'Sequences forked.', c.forks),
    count('cache_block_copies_total', 'Blocks copied for fork and partial sharing.', c.copies),
    count('cache_sequences_dropped_total', 'Kept sequences forgotten.', c.sequencesDropped),
  ].join('');
}

function store({ times: { boundsMs, counts, sumMs }, errors, leasesLost }: StoreStats): string {
  const failed = (Object.entries(errors).length > 0 ? Object.entries(errors) : [['write', 0] as const]).map(
    ([operation, n]): [Record<string, string>, number] => [{ operation }, n],
  );
  return [
    histogramText(
      'longmind_session_store_seconds',
      'Answers of the shared session store.',
      boundsMs.map((ms) => ms / 1000),
      counts,
      sumMs / 1000,
    ),
    sample('longmind_session_store_errors_total', 'Times the shared store did not answer.', 'counter', failed),
    sample('longmind_session_leases_lost_total', 'Turns whose session another server took.', 'counter', [
      [{}, leasesLost],
    ]),
  ].join('');
}

function stepTimes({ stepTimes: { boundsMs, counts, sumMs } }: EngineStats): string {
  const name = 'longmind_step_seconds';
  return histogramText(
    name,
    'Duration of steps.',
    boundsMs.map((ms) => ms / 1000),
    counts,
    sumMs / 1000,
  );
}
