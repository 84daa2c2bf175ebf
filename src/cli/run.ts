/** Joins the command line to the library; bin/longmind.js calls this. */
import * as longmind from '../index.js';
import type { Library } from './library.js';
import { main } from './main.js';

const library: Library = {
  ...longmind,
  bench: { sessions: longmind.bench.runSessions, recall: longmind.bench.runRecall },
};

export const run = (argv: readonly string[]): Promise<number> => main(argv, library);
