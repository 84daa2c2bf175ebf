/** Kinds of files that the fuzz mutates, and how each is read. What could be read is also loaded and run, each eighth time. */
import fs from 'node:fs';
import path from 'node:path';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { llama } from '../../src/model/llama.js';
import { createChatTemplate } from '../../src/tokenizer/chat-template.js';
import { createTokenizer } from '../../src/tokenizer/index.js';
import type { Adapter } from '../../src/types.js';
import { adapterKeyOf, type ModelFiles, openAdapter, openModel, readGguf } from '../../src/weights/index.js';
import { Runner, testLibrary } from '../device/support.js';
import { smallBpe, smallSentencePiece } from '../tokenizer/small-vocabulary.js';
import { awkwardTexts } from '../tokenizer/texts.js';
import { ggufBytes } from '../weights/gguf-builder.js';
import { adapterNames, hasGgufAdapter, readAdapterFixture, writeGgufAdapter, writePeft } from './adapters.js';
import { hasGguf, splitGgufOf, writeGgufOf } from './gguf.js';
import { mutateBytes, mutateJson, mutateTemplate, pick } from './mutate.js';
import {
  checkpoint,
  checkpointNames,
  type Fixture,
  fixtureNames,
  readFixture,
  temporaryFolder,
  withHeader,
  writeFolder,
} from './tiny.js';

type Random = () => number;

/** One kind of file: `run` writes what a mutation made of one of its files, and reads it. */
export interface Target {
  name: string;
  run(r: Random): void;
}

export function allTargets(): Target[] {
  const fixtures = fixtureNames().map(readFixture);
  // targets leave files as they were, so that they can share them
  const folders = fixtures.map((f) => writeFolder(f));
  const quantised = checkpointNames().map((name) => checkpoint(name).folder);
  const hasIndex = (folder: string) => fs.existsSync(path.join(folder, INDEX));
  const llamaFixture = readFixture('llama');
  return [
    headerTarget('safetensors', folders),
    fileTarget('index', folders.filter(hasIndex), INDEX),
    fileTarget('config.json', folders, 'config.json'),
    fileTarget('quantization_config', quantised, 'config.json', 'quantization_config'),
    headerTarget('quantised safetensors', quantised),
    dataTarget('quantised data', quantised),
    tokenizerTarget(),
    ...['tokenizer_config.json', 'generation_config.json'].map((file) => besideTarget(file, llamaFixture)),
    sentencePieceTarget(),
    templateTarget(),
    ggufTarget(
      'gguf',
      fixtures.filter(hasGguf).map((f) => [writeGgufOf(f)]),
    ),
    ggufTarget('split gguf', [splitGgufOf(llamaFixture, 2)]),
    ggufTokenizerTarget(),
    ...adapterTargets(),
  ];
}

const FIXTURES = path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures');
const options = { sessionLen: 0, weights: 'q8' } as const;
/** Of a header: what it holds changes nothing. */
const METADATA = '__metadata__';
const INDEX = 'model.safetensors.index.json';
const filesOf = (folder: string): string[] =>
  fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.safetensors'))
    .map((name) => path.join(folder, name));

// ---------------------------------------------------------------- what was read, loaded and run

const LOADED = 1 / 8;

function openAndLoad(file: string, r: Random): void {
  const model = openModel(file, options);
  if (r() < LOADED) loadAndRun(model);
}

function loadAndRun({ config, source }: Pick<ModelFiles, 'config' | 'source'>, adapters: Adapter[] = []): void {
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  const program = { ...llama({ ...dims, rmsEps, rope, tiedOutput, flags }), adapters };
  const device = createCpuDevice({ threads: 1, library: testLibrary() });
  try {
    const small = { maxRows: 1, session: 32, maxTokens: 16, maxLogits: 16 };
    const runner = new Runner({ program, source, tensors: new Map() }, { device, ...small });
    runner.run([{ slot: 0, position: 0, tokens: [0, 0, 0], adapter: adapters.length - 1 }]);
  } finally {
    device.close();
  }
}

// ---------------------------------------------------------------- folders

/** Writes what is mutated and reads it; then the file is as it was. */
function withFile(file: string, bytes: string | Buffer, original: string | Buffer, read: () => void): void {
  fs.writeFileSync(file, bytes);
  try {
    read();
  } finally {
    fs.writeFileSync(file, original);
  }
}

function headerTarget(name: string, folders: string[]): Target {
  const cases = folders.flatMap(filesOf).map((file) => {
    const bytes = fs.readFileSync(file);
    const length = Number(bytes.readBigUInt64LE(0));
    const header = bytes.toString('utf8', 8, 8 + length);
    return { folder: path.dirname(file), file, bytes, header, data: bytes.subarray(8 + length) };
  });
  const run = (r: Random) => {
    const { folder, file, bytes, header, data } = pick(r, cases);
    let changed = withHeader(mutateJson(header, r, r() < 0.3 ? METADATA : undefined), [data]);
    if (r() < 0.1) changed.writeBigUInt64LE(BigInt(Math.floor(r() * 2 ** 53)) * (r() < 0.5 ? 1n : 2048n));
    if (r() < 0.2) changed = changed.subarray(0, Math.floor(r() * changed.length));
    withFile(file, changed, bytes, () => openAndLoad(folder, r));
  };
  return { name, run };
}

/** Codes, scales, zero points, orders and shapes that the header does not tell. */
function dataTarget(name: string, folders: string[]): Target {
  const cases = folders.flatMap(filesOf).map((file) => {
    const bytes = fs.readFileSync(file);
    return { file, bytes, start: 8 + Number(bytes.readBigUInt64LE(0)) };
  });
  const run = (r: Random) => {
    const { file, bytes, start } = pick(r, cases);
    const changed = Buffer.from(bytes);
    for (let n = 1 + Math.floor(r() * 64); n > 0; n--) {
      const at = start + 4 * Math.floor((r() * (bytes.length - start - 4)) / 4);
      changed.writeUInt32LE(pick(r, [0, 0xffffffff, 0x7fffffff, 0x80000000, Math.floor(r() * 2 ** 32)]), at);
    }
    withFile(file, changed, bytes, () => loadAndRun(openModel(path.dirname(file), options)));
  };
  return { name, run };
}

function fileTarget(name: string, folders: string[], file: string, within?: string): Target {
  const cases = folders.map((folder) => ({ folder, text: fs.readFileSync(path.join(folder, file), 'utf8') }));
  const run = (r: Random) => {
    const { folder, text } = pick(r, cases);
    withFile(path.join(folder, file), mutateJson(text, r, within), text, () => openAndLoad(folder, r));
  };
  return { name, run };
}

const BESIDE = {
  bos_token: '<s>',
  eos_token: { content: '</s>', special: true },
  add_bos_token: true,
  added_tokens_decoder: { 0: { content: '<pad>', special: true }, 300: { content: '<|x|>', special: false } },
  chat_template: [{ name: 'default', template: '{% for m in messages %}{{ m.content }}{% endfor %}' }],
  ...{ eos_token_id: [2, 17], temperature: 0.3, top_k: 7, top_p: 0.8, min_p: 0.1, repetition_penalty: 1.05 },
};

function besideTarget(file: string, f: Fixture): Target {
  const folder = writeFolder(f);
  const text = JSON.stringify(BESIDE);
  const run = (r: Random) => {
    fs.writeFileSync(path.join(folder, file), mutateJson(text, r));
    createTokenizer(openModel(folder, options).metadata);
  };
  return { name: file, run };
}

// ---------------------------------------------------------------- tokenizers and templates

const TEXTS = awkwardTexts(60);

function tokenizerTarget(): Target {
  const folder = path.join(FIXTURES, 'tokenizer-json');
  const cases = fs.readdirSync(folder).map((file) => {
    const { tokenizer } = JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'));
    // the list is long and alike: with less of it the rest is hit more often
    tokenizer.model.merges = tokenizer.model.merges?.slice(0, 40);
    return JSON.stringify(tokenizer);
  });
  const run = (r: Random) => {
    const tokenizer = createTokenizer(new Map([['tokenizer.huggingface.json', mutateJson(pick(r, cases), r)]]));
    const ids = tokenizer.encode(pick(r, TEXTS), { special: r() < 0.5, addBos: true });
    tokenizer.decode(ids, { special: true, trimPrefix: true });
  };
  return { name: 'tokenizer.json', run };
}

function sentencePieceTarget(): Target {
  const { model } = JSON.parse(fs.readFileSync(path.join(FIXTURES, 'sentencepiece.json'), 'utf8'));
  const bytes = Buffer.from(model, 'base64');
  const folder = writeFolder(readFixture('internlm2'));
  fs.rmSync(path.join(folder, 'tokenizer.json'));
  const run = (r: Random) => {
    fs.writeFileSync(path.join(folder, 'tokenizer.model'), mutateBytes(bytes, r));
    const tokenizer = createTokenizer(openModel(folder, options).metadata);
    tokenizer.decode(tokenizer.encode(pick(r, TEXTS), { special: r() < 0.5 }), { special: true, trimPrefix: true });
  };
  return { name: 'tokenizer.model', run };
}

function templateTarget(): Target {
  const folder = path.join(FIXTURES, 'templates');
  const names = fs.readdirSync(folder).filter((name) => name.endsWith('.jinja'));
  const cases = names.map((name) => fs.readFileSync(path.join(folder, name), 'utf8'));
  const { tokenizer: json } = JSON.parse(fs.readFileSync(path.join(FIXTURES, 'tokenizer-json', 'smollm.json'), 'utf8'));
  const tokenizer = createTokenizer(new Map([['tokenizer.huggingface.json', JSON.stringify(json)]]));
  const run = (r: Random) => {
    const metadata = new Map([['tokenizer.chat_template', mutateTemplate(pick(r, cases), r)]]);
    createChatTemplate(metadata, tokenizer).apply([
      { role: 'system', content: 'be short' },
      { role: 'user', content: pick(r, TEXTS) },
      { role: 'assistant', content: '<think>x</think>yes' },
      { role: 'user', content: 'and?' },
    ]);
  };
  return { name: 'chat template', run };
}

// ---------------------------------------------------------------- GGUF

/** `models`: the files of each. */
function ggufTarget(name: string, models: string[][]): Target {
  const cases = models.flatMap((files) => files.map((file) => ({ file, whole: fs.readFileSync(file) })));
  const run = (r: Random) => {
    const { file, whole } = pick(r, cases);
    let changed = Buffer.concat([mutateBytes(whole.subarray(0, 6000), r), whole.subarray(6000)]);
    if (r() < 0.2) changed = changed.subarray(0, Math.floor(r() * changed.length));
    withFile(file, changed, whole, () => openAndLoad(file, r));
  };
  return { name, run };
}

function ggufTokenizerTarget(): Target {
  const file = path.join(temporaryFolder(), 'm.gguf');
  const cases = [smallBpe(60), smallSentencePiece()].map((metadata) => ggufBytes({ metadata }));
  const run = (r: Random) => {
    fs.writeFileSync(file, mutateBytes(pick(r, cases), r));
    const tokenizer = createTokenizer(readGguf(file).metadata);
    tokenizer.decode(tokenizer.encode(pick(r, TEXTS), { special: r() < 0.5 }), { special: true, trimPrefix: true });
  };
  return { name: 'gguf tokenizer', run };
}

// ---------------------------------------------------------------- adapters

function adapterTargets(): Target[] {
  const fixtures = adapterNames().map(readAdapterFixture);
  const models = new Map<string, Pick<ModelFiles, 'config' | 'source'>>();
  for (const { family } of fixtures)
    if (!models.has(family)) models.set(family, openModel(writeFolder(readFixture(family)), options));
  const use = (file: string, family: string, r: Random) => {
    const model = models.get(family)!;
    const adapter = openAdapter(file, 'it', model.config);
    adapterKeyOf(adapter);
    if (r() < LOADED) loadAndRun(model, [adapter]);
  };
  const folders = fixtures.map((f) => ({ family: f.family, folder: writePeft(f) }));
  const files = folders.map((f) => {
    const bytes = fs.readFileSync(path.join(f.folder, 'adapter_model.safetensors'));
    const text = fs.readFileSync(path.join(f.folder, 'adapter_config.json'), 'utf8');
    return { ...f, bytes, text, length: Number(bytes.readBigUInt64LE(0)) };
  });
  const ggufs = fixtures.filter(hasGgufAdapter).map((f) => {
    const file = writeGgufAdapter(f);
    return { family: f.family, file, bytes: fs.readFileSync(file) };
  });
  return [
    {
      name: 'adapter_config.json',
      run: (r) => {
        const { family, folder, text } = pick(r, files);
        withFile(path.join(folder, 'adapter_config.json'), mutateJson(text, r), text, () => use(folder, family, r));
      },
    },
    {
      name: 'adapter safetensors',
      run: (r) => {
        const { family, folder, bytes, length } = pick(r, files);
        const header = mutateJson(bytes.toString('utf8', 8, 8 + length), r, r() < 0.3 ? METADATA : undefined);
        let changed = withHeader(header, [bytes.subarray(8 + length)]);
        if (r() < 0.2) changed = changed.subarray(0, Math.floor(r() * changed.length));
        withFile(path.join(folder, 'adapter_model.safetensors'), changed, bytes, () => use(folder, family, r));
      },
    },
    {
      name: 'adapter gguf',
      run: (r) => {
        const { family, file, bytes } = pick(r, ggufs);
        const changed = Buffer.concat([mutateBytes(bytes.subarray(0, 3000), r), bytes.subarray(3000)]);
        withFile(file, changed, bytes, () => use(file, family, r));
      },
    },
  ];
}
