/** longmind serve: the HTTP server. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { engineOptions, errors, serverOptions } from '../../index.js';
import { addModelOptions, type Context, loadEngine, newCommand, VERBOSE_FLAG } from '../context.js';
import type { RunningServer } from '../library.js';
import { addTable, given } from '../options.js';
import { engineLines } from '../report.js';

export function serveCommand(context: Context): Command {
  const command = newCommand('serve', 'Serve a model over HTTP (OpenAI API)', [
    'serve',
    'serve --model ./model.gguf --server-port 8080 --cache-max-entry-count 4GiB',
    'serve --server-name 0.0.0.0 --api-keys @keys.txt',
  ]);
  addTable(command, serverOptions, 'Server:');
  command.option('--json', 'print one JSON line when ready');
  command.option(...VERBOSE_FLAG);
  addModelOptions(command, context.library.defaultModel);
  return command.action(() => serve(context, command));
}

async function serve(context: Context, command: Command): Promise<void> {
  const { terminal, interrupt } = context;
  const options = given(command, serverOptions);
  const { sessionStore, sessionLease } = given(command, engineOptions);
  if (typeof sessionStore === 'string' && sessionStore !== '') {
    const shared = context.library.storeAddress(sessionStore) !== null;
    options.conversationStore ??= shared ? sessionStore : path.join(sessionStore, 'conversations');
    if (shared) options.conversationLease ??= sessionLease;
  }
  if (options.apiKeys) options.apiKeys = await readKeys(options.apiKeys as string[]);
  const { checkServerOptions, checkSurroundings, createServer } = await context.loadServer();
  // what is wrong should be known before a model is loaded for nothing
  await checkSurroundings(checkServerOptions(options).config);
  await using engine = await loadEngine(context, command);
  const names = (options.servedModelName ?? []) as string[];
  // '*' alone leaves the name that is shown as it would be
  const servedModelName = names.some((name) => name !== '*') ? names : [servedName(context, command), ...names];
  const server = await createServer(engine, { ...options, servedModelName, version: context.version });
  if (terminal.json) {
    const { url, modelName } = server;
    terminal.value({ url, model: modelName, pid: process.pid, loadMs: engine.info.loadMs, memory: engine.info.memory });
  } else {
    terminal.line(engineLines(engine.info, command.getOptionValue('verbose') === true));
    terminal.line(`\nready after ${(engine.info.loadMs / 1000).toFixed(1)} s: ${terminal.bold(server.url)}`);
    terminal.line(`open it in a browser to chat and to watch the cache; the OpenAI API is at ${server.url}/v1,`);
    terminal.line(`metrics are at ${server.url}/metrics. Try:\n`);
    terminal.line(curlLine(server, options.apiKeys !== undefined));
    terminal.line('\nCtrl-C ends it: running requests are finished first, a second Ctrl-C does not wait.');
  }
  await interrupt.wait();
  // an engine that is gone has nothing to finish
  const { running, waiting } = await engine.stats().then(
    (s) => s.requests,
    () => ({ running: 0, waiting: 0 }),
  );
  if (running + waiting > 0) terminal.note(`finishing ${running + waiting} requests …`);
  await server.close();
  context.exitCode = interrupt.exitCode;
}

/** The reference it was given by; of a file its name without folder and extension. */
function servedName(context: Context, command: Command): string {
  const ref = (command.getOptionValue('model') as string | undefined) ?? context.library.defaultModel;
  return ref.endsWith('.gguf') && !ref.startsWith('hf:') ? ref.replace(/^.*[\\/]/, '').replace(/\.gguf$/, '') : ref;
}

/** Keys in a file, one a line, do not show up in the list of processes: '@FILE' reads them. */
async function readKeys(list: string[]): Promise<string[]> {
  const all: string[] = [];
  for (const key of list) {
    if (!key.startsWith('@')) {
      all.push(key);
      continue;
    }
    const text = await readFile(key.slice(1), 'utf8').catch((e: Error) => {
      throw errors.io('reading --api-keys', e.message);
    });
    const keys = text.split(/\s+/).filter(Boolean);
    if (keys.length === 0) throw errors.invalidOption('apiKeys', key, 'a file with at least one key');
    all.push(...keys);
  }
  return all;
}

function curlLine(server: RunningServer, withKey: boolean): string {
  const body = JSON.stringify({
    model: server.modelName,
    messages: [{ role: 'user', content: 'Hello! Who are you?' }],
  });
  return [
    `  curl ${server.url}/v1/chat/completions \\`,
    ...(withKey ? ["    -H 'Authorization: Bearer YOUR_KEY' \\"] : []),
    "    -H 'Content-Type: application/json' \\",
    `    -d '${body.replace(/'/g, "'\\''")}'`,
  ].join('\n');
}
