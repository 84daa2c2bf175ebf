/**
 * Imported first by every script here: who mistyped an option, named a file that is not there or a model that cannot be had
 * gets one line and exit status 2. A bug of ours keeps its stack and gets 1.
 */
import path from 'node:path';

const script = path.basename(process.argv[1] ?? 'bench').replace(/\.js$/, '.ts');

/** What a caller can mend, in one line; null for a bug. */
function asCallers(e: unknown): string | null {
  if (!(e instanceof Error)) return null;
  const { code, syscall } = e as NodeJS.ErrnoException;
  if (code?.startsWith('ERR_PARSE_ARGS_'))
    return `${e.message.split('. ')[0]}; its options are at the top of the script`;
  if (e.name === 'LongmindError' || syscall !== undefined) return e.message;
  return null;
}

process.on('uncaughtException', (e) => {
  const line = asCallers(e);
  console.error(`${script}: ${line ?? e.stack ?? e}`);
  process.exit(line === null ? 1 : 2);
});
