/** Turns with names of their own: gone on from, branched from, deleted, and found again after a restart. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { EngineRequest } from '../../src/engine/request.js';
import { LongmindError } from '../../src/errors.js';
import { tokens } from '../support/batch.js';
import { openCore, request } from '../support/core.js';

type Rig = ReturnType<typeof openCore>;

/** A turn that is kept under `name`, and goes on from `after`. */
const turn = (id: number, prompt: number[], name: string, after: string | null = null): EngineRequest => ({
  ...request(id, prompt, after === null ? name : null),
  continuation: after === null ? null : Int32Array.from(prompt),
  after,
  keepAs: { name, note: `note of ${name}`, head: 'the head' },
});

const known = ({ core }: Rig, name: string): number[] => {
  const { session, end } = core.batch.sessions.point(name, 0);
  const out = new Int32Array(end);
  core.cache.readTokens(session.sequence, 0, end, out, 0);
  return [...out];
};

const unknown = (e: unknown) => e instanceof LongmindError && e.code === 'checkpoint_not_found' && e.status === 404;

test('a conversation is kept once, however many of its turns have names', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  const one = rig.run(turn(1, tokens(40, 1), 'one'));
  const two = rig.run(turn(2, tokens(20, 2), 'two', 'one'));
  rig.run(turn(3, tokens(10, 3), 'three', 'two'));
  const { sessions } = rig.core.batch;
  assert.equal(sessions.size, 1);
  const point = sessions.point('three', 0);
  assert.deepEqual(
    sessions.points.path(point).map((p) => p.name),
    ['one', 'two', 'three'],
  );
  const whole = [...tokens(40, 1), ...one, ...tokens(20, 2), ...two, ...tokens(10, 3)];
  assert.deepEqual(known(rig, 'three').slice(0, whole.length), whole);
  assert.deepEqual([sessions.points.info(point).start, point.prompt], [whole.length - 10, whole.length]);
  assert.equal(rig.core.cache.stats().tokensKept, point.end);
  rig.core.batch.check();
});

test('an older turn branches; what comes out is what its whole history gives, and the newer turns stay', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  const one = rig.run(turn(1, tokens(40, 1), 'one'));
  rig.run(turn(2, tokens(20, 2), 'two', 'one'));
  const before = known(rig, 'two');
  const other = rig.run(turn(3, tokens(30, 3), 'other', 'one'));
  const history = [...tokens(40, 1), ...one, ...tokens(30, 3)];
  assert.deepEqual(other, openCore({ cacheMaxEntryCount: 50 }).run(request(1, history, null)));
  assert.deepEqual(known(rig, 'two'), before);
  assert.equal(rig.core.batch.sessions.size, 2);
  // the branch knows what it was told before, but not under that name
  const { points } = rig.core.batch.sessions;
  assert.deepEqual(
    points.path(points.find('other', 0)!).map((p) => [p.name, p.note]),
    [
      ['', 'note of one'],
      ['other', 'note of other'],
    ],
  );
});

test('a turn that is being continued may be branched at the same time, and what is not kept leaves nothing', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  const one = rig.run(turn(1, tokens(40, 1), 'one'));
  const asked: EngineRequest[] = [
    turn(2, tokens(20, 2), 'two', 'one'),
    turn(3, tokens(20, 3), 'three', 'one'),
    { ...turn(4, tokens(20, 4), '', 'one'), keepAs: null },
  ];
  for (const r of asked) {
    rig.out.set(r.id, []);
    rig.core.batch.submit(r);
    rig.core.batch.step();
  }
  while (rig.core.batch.step());
  for (const [id, seed] of [
    [2, 2],
    [3, 3],
    [4, 4],
  ] as const) {
    const history = [...tokens(40, 1), ...one, ...tokens(20, seed)];
    assert.deepEqual(rig.out.get(id), openCore({ cacheMaxEntryCount: 50 }).run(request(1, history, null)), `${id}`);
  }
  assert.equal(rig.core.batch.sessions.size, 2);
  assert.equal(rig.core.cache.stats().sequences.total, 2);
  rig.core.batch.check();
});

test('a turn that is aborted or fails is not kept, and the one before it is as it was', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  rig.run(turn(1, tokens(40, 1), 'one'));
  const before = known(rig, 'one');
  for (const [name, after] of [
    ['two', 'one'],
    ['new', null],
  ] as const) {
    rig.out.set(2, []);
    rig.core.batch.submit(turn(2, tokens(20, 2), name, after));
    rig.core.batch.step();
    rig.core.batch.step();
    rig.core.batch.abort(2);
    while (rig.core.batch.step());
    assert.throws(() => rig.core.batch.sessions.point(name, 0), unknown);
  }
  assert.deepEqual(known(rig, 'one'), before);
  assert.equal(rig.core.batch.sessions.size, 1);
  assert.equal(rig.core.cache.stats().tokensKept, before.length);
  const [long] = [tokens(2000, 5)];
  assert.throws(() => rig.core.batch.submit(turn(3, long, 'long', 'one')), LongmindError);
  assert.deepEqual(known(rig, 'one'), before);
});

test('unknown names, and those of other owners, are not there', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  rig.run(turn(1, tokens(40, 1), 'one'));
  assert.throws(() => rig.core.batch.submit(turn(2, tokens(5, 2), 'two', 'nothing')), unknown);
  assert.throws(() => rig.core.batch.submit({ ...turn(2, tokens(5, 2), 'two', 'one'), owner: 7 }), unknown);
  assert.throws(() => rig.core.batch.sessions.deletePoint('one', 7), unknown);
});

test('a deleted turn takes the tokens along that no other needs', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  rig.run(turn(1, tokens(40, 1), 'one'));
  rig.run(turn(2, tokens(20, 2), 'two', 'one'));
  rig.run(turn(3, tokens(20, 3), 'three', 'two'));
  const { sessions } = rig.core.batch;
  const end = sessions.point('two', 0).end;
  sessions.deletePoint('one', 0);
  assert.throws(() => sessions.point('one', 0), unknown);
  assert.equal(rig.core.cache.stats().tokensKept, sessions.point('three', 0).end);
  sessions.deletePoint('three', 0);
  assert.equal(rig.core.cache.stats().tokensKept, end);
  sessions.deletePoint('two', 0);
  assert.equal(rig.core.cache.stats().tokensKept, 0);
  assert.equal(sessions.size, 0);
});

test('names are bounded as sessions are: the oldest is forgotten', () => {
  const rig = openCore({ cacheMaxEntryCount: 50, maxSessions: 2 });
  rig.run(turn(1, tokens(40, 1), 'one'));
  rig.run(turn(2, tokens(20, 2), 'two', 'one'));
  rig.run(turn(3, tokens(20, 3), 'three', 'two'));
  assert.throws(() => rig.core.batch.sessions.point('one', 0), unknown);
  assert.equal(rig.core.batch.sessions.point('three', 0).note, 'note of three');
});

test('notes are bounded by the bytes that token ids may take', () => {
  const rig = openCore({ cacheMaxEntryCount: 50, maxSessionTokens: 1000 });
  const noted = (id: number, name: string, after: string | null = null): EngineRequest => ({
    ...turn(id, tokens(20, id), name, after),
    keepAs: { name, note: 'n'.repeat(900), head: '' },
  });
  rig.run(noted(1, 'one'));
  rig.run(noted(2, 'two'));
  assert.equal(rig.core.batch.sessions.size, 2);
  rig.run(noted(3, 'three'));
  assert.throws(() => rig.core.batch.sessions.point('one', 0), unknown);
  // what a later turn needs is not forgotten before it
  rig.run(noted(4, 'four', 'three'));
  assert.deepEqual(
    [...rig.core.batch.sessions.all()].map((s) => s.points.map((p) => p.name)),
    [['three', 'four']],
  );
  assert.equal(rig.core.batch.sessions.points.bytes, 3600);
  rig.core.batch.sessions.deletePoint('four', 0);
  rig.core.batch.sessions.deletePoint('three', 0);
  assert.equal(rig.core.batch.sessions.points.bytes, 0);
});

test('a session that is rewound loses the turns that ended later', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  rig.run(turn(1, tokens(40, 1), 'one'));
  rig.run(turn(2, tokens(20, 2), 'two', 'one'));
  const { sessions } = rig.core.batch;
  const { session, end } = sessions.point('one', 0);
  rig.core.cache.truncate(session.sequence, end);
  sessions.changed(session, end);
  assert.throws(() => sessions.point('two', 0), unknown);
  assert.equal(sessions.point('one', 0).end, end);
});

test('a failure of our own code costs what is in flight, not what is kept', () => {
  const rig = openCore({ cacheMaxEntryCount: 50 });
  const one = rig.run(turn(1, tokens(40, 1), 'one'));
  rig.out.set(2, []);
  rig.core.batch.submit(turn(2, tokens(20, 2), 'two', 'one'));
  rig.core.batch.step();
  rig.core.restart(new LongmindError('engine_failed', 500, 'as the test asked'));
  assert.throws(() => rig.core.batch.sessions.point('two', 0), unknown);
  const again = rig.run(turn(3, tokens(20, 3), 'three', 'one'));
  const history = [...tokens(40, 1), ...one, ...tokens(20, 3)];
  assert.deepEqual(again, openCore({ cacheMaxEntryCount: 50 }).run(request(1, history, null)));
  assert.equal(rig.core.batch.sessions.size, 1);
});

test('kept turns outlive the process, with their notes', async () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-store-'));
  try {
    const options = { cacheMaxEntryCount: 50, sessionStore: dir };
    const before = openCore(options);
    const one = before.run(turn(1, tokens(40, 1), 'one'));
    before.run(turn(2, tokens(20, 2), 'two', 'one'));
    before.run(turn(3, tokens(20, 3), 'gone', 'two'));
    before.run(turn(4, tokens(20, 4), 'branch', 'one'));
    before.core.batch.sessions.deletePoint('gone', 0);
    await before.core.close();

    const after = openCore(options);
    const { sessions } = after.core.batch;
    assert.throws(() => sessions.point('gone', 0), unknown);
    const { session: _, ...two } = sessions.point('two', 0);
    assert.deepEqual(two, {
      name: 'two',
      note: 'note of two',
      head: 'the head',
      prompt: 40 + one.length + 20,
      end: known(after, 'two').length,
      cachedTokens: 47,
      finishReason: 'length',
    });
    assert.equal(sessions.points.path(sessions.point('branch', 0)).length, 2);
    const again = after.run(turn(5, tokens(30, 5), 'five', 'one'));
    const history = [...tokens(40, 1), ...one, ...tokens(30, 5)];
    assert.deepEqual(again, openCore({ cacheMaxEntryCount: 50 }).run(request(1, history, null)));
    sessions.deletePoint('two', 0);
    sessions.deletePoint('one', 0);
    await after.core.close();

    const last = openCore(options);
    assert.deepEqual([...last.core.batch.sessions.all()].map((s) => s.points.map((p) => p.name)).sort(), [
      ['', 'branch'],
      ['', 'five'],
    ]);
    await last.core.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
