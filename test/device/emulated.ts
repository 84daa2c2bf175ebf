/** A native library whose AVX-VNNI and AMX kernels run on emulated instructions (native/test/emulated.h), on any x64 with AVX2. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { abiHeader } from '../../src/device/cpu/layout.js';

const NATIVE = fileURLToPath(new URL('../../../native/', import.meta.url));
const COMMON =
  '-std=c++20 -O1 -DLM_EMULATED -ffp-contract=off -fno-math-errno -fno-exceptions -fno-rtti -fPIC -fvisibility=hidden -Wno-psabi';
const AVX2 = '-DLM_BUILD_AVX2 -mavx2 -mfma -mf16c';
/** Panels as wide as those of the processors that have tiles. */
const WIDE = '-DLM_COLUMNS=12';
const VNNI = '-DLM_BUILD_VNNI -include ../test/emulated.h';

const CORE = ['device', 'platform', 'pool', 'step', 'experts', 'adapters', 'ahead', 'weights', 'numa', 'bench'];

/** Two jobs of about the same length. The products of AVX2 itself are all replaced: the fewer columns the better. */
const JOBS = [
  [`vnni.cpp ${AVX2} ${VNNI} ${WIDE}`, `amx.cpp ${AVX2} ${WIDE} -DLM_BUILD_AMX`],
  [`kernels.cpp ${AVX2} -DLM_COLUMNS=1`, ...CORE.map((f) => `${f}.cpp`), '../test/emulated.cpp'],
];

/** Compiles it into the folder (about 13 s on two cores); its path. */
export function buildEmulated(folder: string): string {
  fs.writeFileSync(path.join(folder, 'abi.gen.h'), abiHeader());
  const library = path.join(folder, 'emulated.so');
  const compile = (job: string) => {
    const [file, ...flags] = job.split(' ');
    return `g++ ${COMMON} ${flags.join(' ')} -I '${folder}' -c ${file} -o '${folder}/${path.basename(file!, '.cpp')}.o'`;
  };
  const jobs = JOBS.map((list) => `(${list.map(compile).join(' && ')}) & jobs="$jobs $!"`);
  const script = `jobs=\n${jobs.join('\n')}\nfor job in $jobs; do wait $job || exit 1; done\ng++ -shared -o '${library}' '${folder}'/*.o -lpthread`;
  execFileSync('sh', ['-c', script], { cwd: path.join(NATIVE, 'cpu'), stdio: ['ignore', 'inherit', 'inherit'] });
  return library;
}
