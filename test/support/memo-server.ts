/** The bundled model behind a server, for tests with the clients that applications use. */
import { createEngine, type Engine } from '../../src/index.js';
import { createServer, type LongmindServer, type ServerOptions } from '../../src/server/index.js';
import { modelPath } from './server-process.js';

interface MemoServer extends AsyncDisposable {
  engine: Engine;
  server: LongmindServer;
  url: string;
}

export async function memoServer(
  options: Record<string, string | number> = {},
  serverOptions: ServerOptions = {},
): Promise<MemoServer> {
  const engine = await createEngine({ model: modelPath!, cacheMaxEntryCount: 128, ...options });
  const server = await createServer(engine, {
    serverPort: 0,
    logLevel: 'silent',
    servedModelName: 'memo',
    ...serverOptions,
  });
  const close = async () => {
    await server.close({ drainMs: 0 });
    await engine.close();
  };
  return { engine, server, url: server.url, [Symbol.asyncDispose]: close };
}
