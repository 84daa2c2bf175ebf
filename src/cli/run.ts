/** Joins the command line to the library; bin/longmind.js calls this and brings the server. */
import * as longmind from '../index.js';
import type { ServerModule } from './library.js';
import { main } from './main.js';

export const run = (argv: readonly string[], loadServer: () => Promise<ServerModule>): Promise<number> =>
  main(argv, { ...longmind, loadBench: () => import('../bench/index.js') }, loadServer);
