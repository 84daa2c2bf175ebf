/** Which .gguf file of several is meant; of a model that is split, its first part. */
import { nameOfPart, partOf } from '../base/split-names.js';

/** What to take if nothing is asked for: good quality for its size first. */
const PREFERRED = [
  'Q4_K_M',
  'Q8_0',
  'Q4_0',
  'Q4_1',
  'Q5_K_M',
  'Q6_K',
  'Q4_K_S',
  'Q5_K_S',
  'Q5_0',
  'Q5_1',
  'IQ4_XS',
  'IQ4_NL',
  'MXFP4',
  'Q3_K_M',
  'Q2_K',
  'F16',
  'BF16',
  'F32',
];

const isGguf = (name: string): boolean => /\.gguf$/i.test(name);
const baseName = (name: string): string => name.slice(name.lastIndexOf('/') + 1);

/** Does the file's name carry the quantisation: `model-Q4_0.gguf`, `model.q4_0.gguf`, `Q4_0/model.gguf`? */
function hasQuant(name: string, quant: string): boolean {
  const wanted = quant.toLowerCase();
  return name
    .toLowerCase()
    .split(/[/.-]|_(?=i?q\d|f16|f32|bf16)/)
    .includes(wanted);
}

type Selection = { file: string } | { problem: string };

/** `names`: paths within the repository or package. */
export function selectFile(names: readonly string[], select: string | null): Selection {
  const models = names.filter((n) => isGguf(n) && !/mmproj|imatrix/i.test(baseName(n)) && (partOf(n)?.part ?? 1) === 1);
  if (models.length === 0) return { problem: 'it has no .gguf file' };
  if (select !== null && isGguf(select)) {
    const first = nameOfPart(select, 1);
    const exact = models.filter((n) => n === first || baseName(n) === first);
    return exact.length > 0 ? whole(exact) : { problem: `it has no file '${select}' (it has ${listOf(models)})` };
  }
  if (select !== null) {
    const matching = models.filter((n) => hasQuant(n, select));
    if (matching.length === 0) return { problem: `it has no '${select}' (it has ${listOf(models)})` };
    return whole(matching);
  }
  if (models.length === 1) return whole(models);
  for (const quant of PREFERRED) {
    const matching = models.filter((n) => hasQuant(n, quant));
    if (matching.length === 1) return { file: matching[0]! };
  }
  return { problem: `it has several files; name one of ${listOf(models)}` };
}

function whole(matching: string[]): Selection {
  if (matching.length > 1) return { problem: `several files match: ${listOf(matching)}` };
  return { file: matching[0]! };
}

function listOf(names: readonly string[]): string {
  return names.length <= 8 ? names.join(', ') : `${names.slice(0, 8).join(', ')} and ${names.length - 8} more`;
}
