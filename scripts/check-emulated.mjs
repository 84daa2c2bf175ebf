// The CPU device's contract suite on kernels of processors that are not here: AVX-VNNI and AMX, by emulated instructions
// (native/test/emulated.h). Arguments: test files of test/device/ without their end, instead of all. Minutes.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const dist = path.resolve(path.dirname(new URL(import.meta.url).pathname), '../dist/test/device');
const { buildEmulated } = await import(pathToFileURL(path.join(dist, 'emulated.js')));
const folder = mkdtempSync(path.join(tmpdir(), 'longmind-emulated-'));
try {
  const library = buildEmulated(folder);
  const names = process.argv.slice(2);
  const files = (names.length > 0 ? names : ['linear', 'forward', 'invariance', 'contract', 'sample']).map((name) =>
    path.join(dist, `${name}.test.js`),
  );
  const { status } = spawnSync(process.execPath, ['--test', '--test-concurrency=1', '--test-force-exit', ...files], {
    stdio: 'inherit',
    env: { ...process.env, LONGMIND_TEST_LIBRARY: library },
  });
  process.exitCode = status ?? 1;
} finally {
  rmSync(folder, { recursive: true });
}
