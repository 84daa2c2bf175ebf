/**
 * Mutated files of models, many: node dist/bench/model-fuzz.js [rounds] [first seed]. A round that fails is named by its seed;
 * `… 1 SEED` plays it again.
 */
import { fuzzModels } from '../test/models/fuzz.js';

const rounds = Number(process.argv[2] ?? 200_000);
const seed = Number(process.argv[3] ?? 1);
const report = fuzzModels(rounds, seed, (n) => {
  if (n % 20_000 === 0) process.stderr.write(`${n} of ${rounds}\n`);
});
console.log(JSON.stringify({ ...report, failures: report.failures.slice(0, 20) }, null, 2));
process.exit(report.failures.length > 0 ? 1 : 0);
