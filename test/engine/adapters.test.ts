/** Engines with LoRA adapters: requests of several at a time, sessions that keep theirs, KV that none shares with another. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { engineOptions, parseOptions } from '../../src/config.js';
import { createNullDevice } from '../../src/device/null/index.js';
import { planModel } from '../../src/engine/core.js';
import { createEngine, type Engine, type EngineOptions, inspectModel } from '../../src/index.js';
import { llama } from '../../src/model/llama.js';
import { openAdapter, openModel } from '../../src/weights/index.js';
import { readAdapterFixture, writePeft } from '../models/adapters.js';
import { readFixture, temporaryFolder, writeFolder } from '../models/tiny.js';

const model = writeFolder(readFixture('llama'));
const [all, rslora] = [readAdapterFixture('all'), readAdapterFixture('rslora')];
const lora = { all: writePeft(all), rs: writePeft(rslora) };
const options = { maxBatchSize: 8, cacheBlockSeqLen: 16, threads: 1, cacheMaxEntryCount: 60 } as const;
const GREEDY = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, ignoreEos: true };

interface Asked {
  adapter?: string | null;
  sessionId?: string;
  sessionAppend?: boolean;
}

async function answer(engine: Engine, prompt: number[], maxTokens: number, asked: Asked = {}) {
  const running = engine.complete({ ...GREEDY, prompt, maxTokens, ...asked });
  const { tokenIds, usage } = await running.result();
  return { tokens: [...tokenIds], cached: usage.cachedTokens, kv: running.prompt };
}

const open = (more: EngineOptions = {}) => createEngine({ ...options, model, lora, ...more });
const prompt = all.ids.slice(0, 70);
const mixed: Asked[] = [{}, { adapter: 'all' }, { adapter: 'rs' }, { adapter: 'all' }, { adapter: null }];

describe('an engine with adapters', () => {
  let engine: Engine;
  before(async () => {
    engine = await open();
  });
  after(() => engine?.close());

  it('answers as PEFT does', async () => {
    for (const [name, f] of [
      ['all', all],
      ['rs', rslora],
    ] as const) {
      const sure = [...f.argmax.keys()].filter((p) => f.gap[p]! > 0.2).slice(0, 12);
      for (const p of sure) {
        const { tokens } = await answer(engine, f.ids.slice(0, p + 1), 1, { adapter: name });
        assert.deepEqual(tokens, [f.argmax[p]], `${name}, position ${p}`);
      }
      assert.ok(sure.length > 5);
    }
  });

  it('shares KV between requests of one adapter, and none between two', async () => {
    const fresh = rslora.ids.slice(10, 75).reverse();
    const cached = async (asked: Asked) => (await answer(engine, fresh, 2, asked)).cached;
    assert.equal(await cached({ adapter: 'all' }), 0);
    assert.equal(await cached({ adapter: 'rs' }), 0);
    assert.equal(await cached({}), 0);
    for (const asked of mixed) assert.equal(await cached(asked), 64, `${asked.adapter}`);
    await engine.check();
  });

  it('gives each request of a mixed batch what it gives it alone', async () => {
    const alone = [];
    for (const asked of mixed) alone.push((await answer(engine, prompt, 30, asked)).tokens);
    assert.notDeepEqual(alone[0], alone[1]);
    assert.notDeepEqual(alone[1], alone[2]);
    for (const enablePrefixCaching of [false, true]) {
      await using other = await open({ enablePrefixCaching, maxPrefillTokenNum: 24 });
      const together = await Promise.all(mixed.map((asked) => answer(other, prompt, 30, asked)));
      assert.deepEqual(
        together.map((t) => t.tokens),
        alone,
      );
      await other.check();
    }
  });

  it('says what it has, and what it has not', async () => {
    assert.deepEqual(
      engine.info.adapters!.map(({ name, rank }) => [name, rank]),
      [
        ['all', 33],
        ['rs', 5],
      ],
    );
    await assert.rejects(answer(engine, prompt, 1, { adapter: 'none' }), {
      code: 'adapter_not_found',
      status: 404,
      message: /'none'.*'all', 'rs'/,
    });
    const bytes = engine.info.adapters!.reduce((n, a) => n + a.bytes, 0);
    const [alone, loaded] = [await inspectModel(model, options), await inspectModel(model, { ...options, lora })];
    assert.ok(loaded.memory.weightBytes >= alone.memory.weightBytes + bytes);
    assert.equal(loaded.memory.weightBytes, engine.info.memory.weightBytes);
    assert.deepEqual(loaded.adapters, engine.info.adapters);
  });

  it('says what is wrong with what --lora names', async () => {
    const weights = `${lora.rs}/adapter_model.safetensors`;
    for (const [given, code, message] of [
      [
        { poet: './nope' },
        'bad_adapter',
        /^LoRA adapter 'poet' cannot be used: there is no file or folder '\.\/nope'$/,
      ],
      [{ poet: weights }, 'bad_adapter', /the folder that .* lies in/],
      [{ poet: 'hf:org/nope' }, 'offline', /^LoRA adapter 'poet': model 'hf:org\/nope' is not in the cache/],
      [['a=b', 'a=c'], 'invalid_option', /each name once.*"name":"a"|each name once.*"a=b"/],
    ] as const)
      await assert.rejects(open({ lora: given as never, offline: true }), { code, message });
  });

  it('shares no KV with an owner whose number is large, and says so', async () => {
    await using isolated = await open({ isolateOwners: true });
    const ask = (owner: number, adapter: string | null) =>
      isolated.complete({ ...GREEDY, prompt, maxTokens: 2, owner, adapter }).result();
    await ask(4, 'all');
    assert.ok((await ask(4, 'all')).usage.cachedTokens >= 64);
    for (const owner of [2 ** 31 + 5, 2 ** 31 - 1, -1, 0.5])
      await assert.rejects(ask(owner, null), { code: 'invalid_request', param: 'owner' });
    assert.equal((await ask(2 ** 31 - 2, null)).usage.cachedTokens, 0);
  });

  it('embeds with an adapter', async () => {
    const embed = async (adapter?: string) => [...(await engine.embed({ prompt, adapter })).embedding];
    const [plain, one, other] = [await embed(), await embed('all'), await embed('rs')];
    assert.notDeepEqual(plain, one);
    assert.notDeepEqual(one, other);
    assert.deepEqual(await embed('all'), one);
  });

  it('several answers to one prompt are all of its adapter', async () => {
    const first = engine.complete({ ...GREEDY, prompt: prompt.slice(3), maxTokens: 8, adapter: 'rs' });
    const forks = [first.fork(), first.fork()];
    const want = (await answer(engine, prompt.slice(3), 8, { adapter: 'rs' })).tokens;
    for (const g of [first, ...forks]) assert.deepEqual([...(await g.result()).tokenIds], want);
  });
});

describe('a session keeps its adapter', () => {
  const turn = [5, 6, 7, 8];
  const talk = async (engine: Engine, more: Asked = {}) => [
    (await answer(engine, prompt, 9, { sessionId: 's', adapter: 'all' })).tokens,
    (await answer(engine, turn, 9, { sessionId: 's', sessionAppend: true, ...more })).tokens,
  ];
  let want: number[][];
  before(async () => {
    await using engine = await open();
    want = await talk(engine);
    // an appended turn says nothing of the adapter, or the same
    await engine.sessions.delete('s');
    assert.deepEqual(await talk(engine, { adapter: 'all' }), want);
  });

  it('and refuses another', async () => {
    await using engine = await open();
    await talk(engine);
    for (const [adapter, message] of [
      ['rs', /session 's' is of the adapter 'all', and the request asks for the adapter 'rs'/],
      [null, /asks for the model alone/],
    ] as const)
      await assert.rejects(answer(engine, turn, 1, { sessionId: 's', sessionAppend: true, adapter }), {
        code: 'session_adapter',
        status: 409,
        message,
      });
    assert.equal((await engine.sessions.get('s')).adapter, 'all');
    assert.equal((await engine.sessions.fork('s', 'copy')).adapter, 'all');
    const more = async (sessionId: string) =>
      (await answer(engine, turn, 5, { sessionId, sessionAppend: true })).tokens;
    assert.deepEqual(await more('copy'), await more('s'));
    await engine.check();
  });

  it('with the same tokens when its KV was thrown away half-way', async () => {
    await using engine = await open({ cacheMaxEntryCount: 8 });
    const first = (await answer(engine, prompt, 9, { sessionId: 's', adapter: 'all' })).tokens;
    for (const asked of mixed) await answer(engine, [...prompt].reverse(), 10, asked);
    const rest = (await answer(engine, turn, 9, { sessionId: 's', sessionAppend: true })).tokens;
    assert.deepEqual([first, rest], want);
    assert.ok((await engine.stats()).tokens.recomputed > 0, 'nothing was thrown away');
  });

  it('after a restart, and waits for an adapter that is not there', async () => {
    const sessionStore = temporaryFolder();
    {
      await using engine = await open({ sessionStore });
      assert.deepEqual((await talk(engine))[0], want[0]);
    }
    {
      await using engine = await open({ sessionStore, lora: { rs: lora.rs } });
      assert.deepEqual(await engine.sessions.list(), []);
      // whoever knows its name is told, and nothing is said in its place
      const missing = { code: 'adapter_not_found', status: 404, message: /session 's' is of the adapter 'all'.*'rs'/ };
      await assert.rejects(answer(engine, prompt, 1, { sessionId: 's' }), missing);
      await assert.rejects(answer(engine, prompt, 1, { sessionId: 's', adapter: 'rs' }), missing);
      await assert.rejects(engine.sessions.get('s'), missing);
      await answer(engine, prompt, 1, { sessionId: 'other' });
      await assert.rejects(engine.sessions.fork('other', 's'), missing);
    }
    await using engine = await open({ sessionStore, lora: { rs: lora.rs, all: lora.all } });
    assert.equal((await engine.sessions.get('s')).adapter, 'all');
    await engine.sessions.truncate('s', prompt.length + 9);
    assert.deepEqual((await answer(engine, turn, 9, { sessionId: 's', sessionAppend: true })).tokens, want[1]);
  });

  it('and can be forgotten where its adapter is not', async () => {
    const sessionStore = temporaryFolder();
    {
      await using engine = await open({ sessionStore });
      await talk(engine);
    }
    {
      await using engine = await open({ sessionStore, lora: {} });
      await engine.sessions.delete('s');
      await answer(engine, prompt, 1, { sessionId: 's' });
      await engine.check();
    }
    await using engine = await open({ sessionStore });
    assert.equal((await engine.sessions.get('s')).adapter, null);
  });

  it('whose KV is found on the disk by what the adapter is, not by its name', async () => {
    const disk = { cacheDisk: `${temporaryFolder()}:4MiB` };
    const found = async (adapters: Record<string, string>) => {
      await using engine = await open({ ...disk, lora: adapters });
      return engine.info.tiers!.disk!.found;
    };
    {
      await using engine = await open(disk);
      assert.deepEqual((await answer(engine, prompt, 9, { adapter: 'all' })).tokens, want[0]);
    }
    const blocks = await found(lora);
    assert.ok(blocks >= 4, `${blocks} blocks`);
    assert.equal(await found({ other: lora.rs, renamed: lora.all }), blocks);
    {
      await using engine = await open({ ...disk, lora: { renamed: lora.all } });
      assert.deepEqual((await answer(engine, prompt, 9, { adapter: 'renamed' })).tokens, want[0]);
      await engine.check();
    }
    assert.equal(await found({ all: writePeft(all, { config: { lora_alpha: 11 } }) }), 0, 'of another adapter');
  });
});

it('the null device tells adapters apart, and a device without them says so at the start', async () => {
  const { config } = openModel(model, { sessionLen: 0, weights: 'file' });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  const program = {
    ...llama({ ...dims, rmsEps, rope, tiedOutput, flags }),
    adapters: [openAdapter(lora.rs, 'rs', config)],
  };
  const device = createNullDevice();
  const parsed = parseOptions(engineOptions, options);
  assert.ok(planModel(program, 0, parsed, device).memory.kvBlocks > 0);
  const without = { ...device, info: { ...device.info, name: 'cuda', adapters: undefined } };
  assert.throws(() => planModel(program, 0, parsed, without), { code: 'adapters_unsupported', message: /'cuda'/ });
  await using engine = await open({ device: 'null' });
  assert.notDeepEqual(await answer(engine, prompt, 9, { adapter: 'rs' }), await answer(engine, prompt, 9));
});
