/** A hub with Hugging Face's interface on 127.0.0.1, and a second server that it sends downloads to. */
import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeFile {
  bytes: Buffer;
  /** Not stored as a large file: the list has no checksum, HEAD names it. */
  plain?: boolean;
  /** The list claims this checksum. */
  wrongSha?: string;
}

export interface FakeHub {
  endpoint: string;
  files: Record<string, FakeFile>;
  /** What came: 'GET /path range=… auth=…'. */
  log: string[];
  /** Token that is needed. */
  token: string | null;
  /** Connections are cut after so many bytes, so many times. */
  cut: { after: number; times: number };
  /** The file server ignores ranges. */
  noRanges: boolean;
  /** Answer of the file server, instead of the file. */
  refuse: number | null;
  close(): Promise<void>;
}

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

export async function startHub(files: Record<string, FakeFile>): Promise<FakeHub> {
  const servers = [http.createServer(), http.createServer()] as const;
  const [front, back] = servers;
  for (const server of servers) await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const origin = (server: http.Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hub: FakeHub = {
    endpoint: origin(front),
    files,
    log: [],
    token: null,
    cut: { after: 0, times: 0 },
    noRanges: false,
    refuse: null,
    close: async () => {
      for (const server of servers) {
        server.closeAllConnections();
        await new Promise((done) => server.close(done));
      }
    },
  };
  const note = (who: string, req: http.IncomingMessage): void => {
    hub.log.push(
      `${who} ${req.method} ${req.url} range=${req.headers.range ?? ''} auth=${req.headers.authorization ?? ''}`,
    );
  };
  front.on('request', (req, res) => {
    note('hub', req);
    answerFront(hub, origin(back), req, res);
  });
  back.on('request', (req, res) => {
    note('files', req);
    answerBack(hub, req, res);
  });
  return hub;
}

function answerFront(hub: FakeHub, files: string, req: http.IncomingMessage, res: http.ServerResponse): void {
  if (hub.token !== null && req.headers.authorization !== `Bearer ${hub.token}`) {
    res.writeHead(401).end('{"error":"no"}');
    return;
  }
  const url = decodeURIComponent(req.url ?? '');
  if (url.startsWith('/api/models/org/repo/tree/main')) {
    const list = Object.entries(hub.files).map(([path, f]) => ({
      type: 'file',
      path,
      size: f.bytes.length,
      ...(f.plain ? {} : { lfs: { oid: f.wrongSha ?? sha256(f.bytes), size: f.bytes.length } }),
    }));
    res
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify([{ type: 'directory', path: 'x' }, ...list]));
    return;
  }
  const name = url.replace('/org/repo/resolve/main/', '');
  const file = hub.files[name];
  if (!file) {
    res.writeHead(404).end();
    return;
  }
  res.writeHead(302, { location: `${files}/${encodeURI(name)}`, 'x-linked-etag': `"${sha256(file.bytes)}"` }).end();
}

function answerBack(hub: FakeHub, req: http.IncomingMessage, res: http.ServerResponse): void {
  if (hub.refuse !== null) {
    res.writeHead(hub.refuse).end();
    return;
  }
  const { bytes } = hub.files[decodeURIComponent(req.url ?? '').slice(1)]!;
  const range = hub.noRanges ? null : /^bytes=(\d+)-$/.exec(req.headers.range ?? '');
  const part = range ? bytes.subarray(Number(range[1])) : bytes;
  res.writeHead(range ? 206 : 200, { 'content-length': part.length });
  if (req.method === 'HEAD') {
    res.end();
  } else if (hub.cut.times > 0) {
    hub.cut.times--;
    res.write(part.subarray(0, hub.cut.after), () => setTimeout(() => res.destroy(), 20));
  } else res.end(part);
}
