/** A small OpenTelemetry collector: takes OTLP/HTTP in JSON and keeps the spans. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';

interface Value {
  stringValue?: string;
  intValue?: number | string;
  doubleValue?: number;
  boolValue?: boolean;
  arrayValue?: { values: Value[] };
}
interface Attribute {
  key: string;
  value: Value;
}
interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: Attribute[];
  status: { code: number; message?: string };
}
interface Export {
  resourceSpans: { resource: { attributes: Attribute[] }; scopeSpans: { spans: OtlpSpan[] }[] }[];
}

export interface CollectedSpan extends Omit<OtlpSpan, 'attributes'> {
  attributes: Record<string, unknown>;
  resource: Record<string, unknown>;
  /** Milliseconds since the epoch. */
  from: number;
  to: number;
}

export interface Collector {
  url: string;
  paths: string[];
  spans: CollectedSpan[];
}

/** `answer`: how a request ends; default 200. One that does nothing is a collector that hangs. */
export async function collector(t: TestContext, answer?: (response: ServerResponse) => void): Promise<Collector> {
  const out: Collector = { url: '', paths: [], spans: [] };
  const server = createServer((request, response) => {
    out.paths.push(request.url!);
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      if (answer) return answer(response);
      out.spans.push(...spansOf(JSON.parse(Buffer.concat(parts).toString()) as Export));
      response.setHeader('content-type', 'application/json');
      response.end('{}');
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  out.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return out;
}

const spansOf = ({ resourceSpans }: Export): CollectedSpan[] =>
  resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((s) => ({
        ...s,
        attributes: plain(s.attributes),
        resource: plain(resource.attributes),
        from: Number(BigInt(s.startTimeUnixNano) / 1000n) / 1000,
        to: Number(BigInt(s.endTimeUnixNano) / 1000n) / 1000,
      })),
    ),
  );

const plain = (list: Attribute[]): Record<string, unknown> =>
  Object.fromEntries(list.map(({ key, value }) => [key, read(value)]));

function read(v: Value): unknown {
  if (v.arrayValue) return v.arrayValue.values.map(read);
  if (v.intValue !== undefined) return Number(v.intValue);
  return v.stringValue ?? v.doubleValue ?? v.boolValue;
}
