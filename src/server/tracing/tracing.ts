/**
 * Traces for an OpenTelemetry collector (OTLP over HTTP). Spans are made when a request has ended, from what is known of it
 * then, and are sent in the background: a collector that is slow or gone costs spans, never a request. The SDK is not among
 * longmind's dependencies: it is loaded when traces are asked for.
 */
import type * as api from '@opentelemetry/api';
import type * as core from '@opentelemetry/core';
import type * as exporter from '@opentelemetry/exporter-trace-otlp-http';
import type * as resources from '@opentelemetry/resources';
import type * as sdk from '@opentelemetry/sdk-trace';
import { LongmindError } from '../../index.js';
import type { RequestRecord } from '../request-log.js';
import { requestSpan, type Span } from './spans.js';

export interface Tracing {
  /** Spans handed to the SDK and sent, or lost, so far. */
  readonly counts: { readonly exported: number; readonly failed: number };
  /** A request has ended. Never throws and never waits. */
  trace(record: Readonly<RequestRecord>): void;
  /** Sends what waits, for a moment at most. Never rejects. */
  close(): Promise<void>;
}

interface Sdk {
  api: typeof api;
  core: typeof core;
  exporter: typeof exporter;
  resources: typeof resources;
  sdk: typeof sdk;
}

const PACKAGES = ['api', 'core', 'exporter-trace-otlp-http', 'resources', 'sdk-trace'].map(
  (p) => `@opentelemetry/${p}`,
);

/** Milliseconds: spans wait so long for others; an export that takes longer is given up; so long the end may take. */
const BATCH_MS = 1_000;
const EXPORT_MS = 10_000;
const CLOSE_MS = 2_000;
/** Spans that wait at most; more are dropped. */
const MAX_QUEUE = 4_096;
/** A collector that cannot be reached is told of once in so many milliseconds. */
const COMPLAIN_MS = 60_000;

async function loadSdk(): Promise<Sdk> {
  const [api, core, exporter, resources, sdk] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/core'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/sdk-trace'),
  ]);
  return { api, core, exporter, resources, sdk };
}

export interface TracingOptions {
  /** Base address of the collector, or that of its traces. */
  endpoint: string;
  version: string;
  model: string;
  onProblem: (problem: string) => void;
}

/** Throws `otlp_packages_missing`, with what to install, where the SDK is not there. */
export async function checkTracing(load: () => Promise<Sdk> = loadSdk): Promise<Sdk> {
  try {
    return await load();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new LongmindError(
      'otlp_packages_missing',
      400,
      `--otlp-endpoint needs the OpenTelemetry SDK, which is not installed: npm install ${PACKAGES.join(' ')}`,
      'otlpEndpoint',
    );
  }
}

export async function openTracing(options: TracingOptions): Promise<Tracing> {
  const { api, core, exporter, resources, sdk } = await checkTracing();
  const counts = { exported: 0, failed: 0 };
  let complained = Number.NEGATIVE_INFINITY;
  const count = (spans: number, error: Error | undefined, ok: boolean): void => {
    counts[ok ? 'exported' : 'failed'] += spans;
    if (ok || performance.now() - complained < COMPLAIN_MS) return;
    complained = performance.now();
    options.onProblem(`traces cannot be sent (${error?.message ?? 'no reason was given'}); requests are not affected`);
  };
  const otlp = new exporter.OTLPTraceExporter({ url: tracesUrl(options.endpoint), timeoutMillis: EXPORT_MS });
  const counting: sdk.SpanExporter = {
    export: (spans, done) =>
      otlp.export(spans, (result) => {
        count(spans.length, result.error, result.code === core.ExportResultCode.SUCCESS);
        done(result);
      }),
    shutdown: () => otlp.shutdown(),
    forceFlush: () => otlp.forceFlush(),
  };
  const processor = new sdk.BatchSpanProcessor({
    exporter: counting,
    maxQueueSize: MAX_QUEUE,
    scheduledDelayMillis: BATCH_MS,
    exportTimeoutMillis: EXPORT_MS,
  });
  const resource = resources
    .defaultResource()
    .merge(resources.resourceFromAttributes({ 'service.name': 'longmind', 'service.version': options.version }))
    // what the operator says by the SDK's own variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) goes before
    .merge(resources.detectResources({ detectors: [resources.envDetector] }));
  const provider = new sdk.TracerProvider({ resource, spanProcessors: [processor] });
  const tracer = provider.getTracer('longmind', options.version);
  const w3c = new core.W3CTraceContextPropagator();
  const emit = (span: Span, parent: api.Context): void => {
    const { name, started: startTime, attributes } = span;
    const kind = span.server ? api.SpanKind.SERVER : api.SpanKind.INTERNAL;
    const made = tracer.startSpan(name, { kind, startTime, attributes }, parent);
    if (span.error !== null) made.setStatus({ code: api.SpanStatusCode.ERROR, message: span.error });
    const inside = api.trace.setSpan(parent, made);
    for (const child of span.children) emit(child, inside);
    made.end(span.ended);
  };
  return {
    counts,
    trace(record) {
      try {
        const parent = w3c.extract(api.ROOT_CONTEXT, record.context, api.defaultTextMapGetter);
        emit(requestSpan(record, options.model), parent);
      } catch (error) {
        count(1, error as Error, false);
      }
    },
    async close() {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_MS);
      });
      await Promise.race([provider.shutdown().catch(() => {}), late]);
      clearTimeout(timer);
    },
  };
}

/** The address that OTLP/HTTP gives to traces, unless it was given whole. */
function tracesUrl(endpoint: string): string {
  const url = new URL(endpoint);
  if (!url.pathname.endsWith('/v1/traces')) url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`;
  return url.href;
}
