/** The page at / with its files, GET /v1/engine, and the live stream GET /v1/engine/events. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServerContext } from '../context.js';
import { LiveFeed } from '../live/feed.js';
import type { EngineAbout } from '../live/wire.js';
import { answers } from '../responses.js';

/** Where the build puts the page: dist/dashboard, beside dist/src. */
const BUILT = fileURLToPath(new URL('../../../dashboard/', import.meta.url));

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The page loads nothing from elsewhere, runs nothing inline, and cannot be framed. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NOT_BUILT = `<!doctype html><meta charset="utf-8"><title>longmind</title>
<p>The page has not been built: <code>npm run build</code>. The API is at <code>/v1</code>.</p>`;

interface Asset {
  url: string;
  type: string;
  etag: string;
  plain: Buffer;
  gzip: Buffer;
}

export function dashboardRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const assets = readAssets(BUILT);
  const page = assets.find((a) => a.url === '/index.html') ?? assetOf('/index.html', Buffer.from(NOT_BUILT));
  const options = { config: { open: true }, schema: { hide: true } };
  app.get('/', options, (request, reply) => sendAsset(page, request, reply));
  for (const asset of assets) {
    if (asset !== page) app.get(asset.url, options, (request, reply) => sendAsset(asset, request, reply));
  }
  engineRoutes(app, ctx);
}

function engineRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const feed = new LiveFeed(ctx);
  ctx.onDrain.push(() => feed.close());

  const described = {
    description: 'model, device, the split of memory',
    content: { 'application/json': { schema: { type: 'object' } } },
  };
  app.get(
    '/v1/engine',
    { schema: { tags: ['operations'], summary: 'What is running', response: { ...answers('Error'), 200: described } } },
    async () => {
      const { modelPath: _, ...info } = ctx.engine.info;
      return { ...info, servedModelName: ctx.models.first } satisfies EngineAbout;
    },
  );

  // endless, so it is not in the API document, whose readers call everything they find
  app.get('/v1/engine/events', { schema: { hide: true } }, (request, reply) => feed.listen(request.owner, reply));
}

function sendAsset(asset: Asset, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const zipped = /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''));
  const hashed = asset.url.startsWith('/assets/');
  reply.header('etag', asset.etag);
  reply.header('vary', 'accept-encoding');
  reply.header('cache-control', hashed ? 'public, max-age=31536000, immutable' : 'no-cache');
  reply.header('x-content-type-options', 'nosniff');
  reply.header('referrer-policy', 'no-referrer');
  reply.header('content-security-policy', POLICY);
  if (request.headers['if-none-match'] === asset.etag) return reply.code(304).send();
  if (zipped) reply.header('content-encoding', 'gzip');
  return reply.type(asset.type).send(zipped ? asset.gzip : asset.plain);
}

/** Every file of the built page, in memory: they are few and small. */
function readAssets(folder: string): Asset[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((e) => e.isFile() && TYPES[path.extname(e.name)] !== undefined)
      .map((e) => {
        const file = path.join(e.parentPath, e.name);
        return assetOf(`/${path.relative(folder, file).split(path.sep).join('/')}`, readFileSync(file));
      });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function assetOf(url: string, plain: Buffer): Asset {
  const etag = `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"`;
  return { url, type: TYPES[path.extname(url)]!, etag, plain, gzip: gzipSync(plain, { level: 9 }) };
}
