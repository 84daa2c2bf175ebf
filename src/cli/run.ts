/** Joins the command line to the library; bin/longmind.js calls this. */
import * as longmind from '../index.js';
import { main } from './main.js';

export const run = (argv: readonly string[]): Promise<number> => main(argv, longmind);
