import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { type JobFailure, JobQueue } from '../../src/base/jobs.js';
import { WorkerClient, type WorkerEnd, type WorkerHost } from '../../src/base/worker.js';
import { errors } from '../../src/errors.js';

interface Calls {
  double: { args: number; result: number };
  refuse: { args: null; result: null };
  bug: { args: null; result: null };
  exit: { args: number; result: null };
  spin: { args: null; result: null };
  fill: { args: null; result: null };
}

const at = (file: string) => JSON.stringify(new URL(`../../src/${file}`, import.meta.url).href);

/** A worker's script; `start`: what it does first. */
function script(start = ''): URL {
  const code = `
    import { workerData } from 'node:worker_threads';
    import { answer, begin } from ${at('base/worker.js')};
    import { errors } from ${at('errors.js')};
    const answers = {
      double: (n) => 2 * n,
      refuse: () => { throw errors.queueFull(7); },
      bug: () => null.x,
      exit: (code) => process.exit(code),
      spin: () => { for (;;); },
      fill: () => { for (const a = []; ; ) a.push(new Array(1e5).fill({})); },
    };
    const begun = begin(() => { ${start}; return { made: null, info: workerData }; });
    begun?.port.on('message', (m) => m.type === 'call' ? answer(begun.port, m, answers, null) : begun.port.postMessage({ type: 'echo', m }));`;
  return new URL(`data:text/javascript,${encodeURIComponent(code)}`);
}

const code = (code: string) => (e: unknown) => (e as { code?: string }).code === code;

test('calls are answered by number, errors come back as they were thrown, and messages go beside them', async () => {
  let told: (m: unknown) => void = () => {};
  const echoed = new Promise((resolve) => {
    told = resolve;
  });
  const client = new WorkerClient<Calls, string, { type: 'hello' }, { type: 'echo'; m: unknown }>(
    script(),
    { data: 'info' },
    { onMessage: ({ m }) => told(m) },
  );
  assert.equal(await client.ready, 'info');
  client.post({ type: 'hello' });
  const [refused, ...doubled] = await Promise.allSettled([
    client.call('refuse', null),
    client.call('double', 3),
    client.call('double', 4),
  ]);
  assert.deepEqual(
    doubled.map((d) => d.status === 'fulfilled' && d.value),
    [6, 8],
  );
  assert.ok(refused.status === 'rejected' && code('queue_full')(refused.reason));
  await assert.rejects(client.call('bug', null), code('engine_failed'));
  assert.deepEqual(await echoed, { type: 'hello' });
  await client.terminate();
  await assert.rejects(client.call('double', 1), code('engine_closed'));
});

test('when a worker ends, everything that waits for it fails, and its end is told once', async () => {
  const ends: WorkerEnd[] = [];
  const client = new WorkerClient<Calls>(script(), {}, { onEnd: (end) => ends.push(end) });
  const both = await Promise.allSettled([client.call('exit', 3), client.call('double', 1)]);
  assert.deepEqual(
    both.map((b) => b.status),
    ['rejected', 'rejected'],
  );
  await client.ended;
  assert.deepEqual(
    ends.map((e) => [e.kind, e.detail]),
    [['exit', 'it ended with code 3']],
  );
});

test('a worker that cannot start says why; the next job tries again', async () => {
  const queue = new JobQueue<Calls>(script('throw errors.offline("m")'), {}, { pending: 9, size: 9 });
  const explain = () => assert.fail('the worker said it');
  await assert.rejects(queue.start(), code('offline'));
  await assert.rejects(queue.run('double', 1, { explain }), code('offline'));
  await assert.rejects(queue.run('double', 1, { explain }), code('offline'));
  await queue.close();
});

/** A worker whose refusal and exit are heard in one moment, as when its end is heard first and what it said is read then. */
class Hasty extends EventEmitter implements WorkerHost {
  constructor(answer: (call: number) => object, refusesStart: boolean) {
    super();
    const end = (call: number) => {
      this.emit('message', answer(call));
      this.emit('exit', 0);
    };
    setImmediate(() => (refusesStart ? end(0) : this.emit('message', { type: 'ready', info: null })));
    this.postMessage = ({ call }) => setImmediate(end, call);
  }
  postMessage: (m: { call: number }) => void;
  ref(): void {}
  unref(): void {}
  async terminate(): Promise<void> {}
}

test('what a worker says counts, also when its end is heard in the same moment', async () => {
  const error = errors.offline('m').toJSON();
  const hasty = [
    () => new Hasty(() => ({ type: 'fatal', error }), true),
    () => new Hasty((call) => ({ type: 'refused', call, error }), false),
  ];
  const explain = () => errors.engineFailed('nobody said why');
  for (const host of hasty) {
    const queue = new JobQueue<Calls>(script(), {}, { pending: 9, size: 9 }, host);
    await assert.rejects(queue.run('double', 1, { explain }), code('offline'));
    await assert.rejects(queue.run('double', 1, { explain }), code('offline'));
    await queue.close();
  }
});

test('a job that hangs, grows or ends its thread costs itself alone; one that waits goes to another thread', async () => {
  const queue = new JobQueue<Calls>(script(), { maxHeapMib: 64 }, { pending: 9, size: 9 });
  const failures: JobFailure[] = [];
  const explain = (f: JobFailure) => {
    failures.push(f);
    return errors.engineFailed(f.kind);
  };
  const bad = [
    queue.run('spin', null, { limitMs: 200, explain }),
    queue.run('fill', null, { explain }),
    queue.run('exit', 1, { explain }),
    queue.run('double', (() => {}) as never, { explain }),
  ];
  const good = queue.run('double', 21, { limitMs: 60_000, explain });
  for (const r of await Promise.allSettled(bad)) assert.ok(r.status === 'rejected' && code('engine_failed')(r.reason));
  assert.equal(await good, 42);
  assert.deepEqual(
    failures.map((f) => f.kind),
    ['time', 'memory', 'exit', 'unsendable'],
  );
  await queue.close();
});

test('jobs that wait are bounded in number and size; one alone may be larger; closed, the queue refuses all', async () => {
  const queue = new JobQueue<Calls>(script(), {}, { pending: 2, size: 10 });
  const explain = () => errors.engineFailed('');
  const sizes = [1, 99, 1, 1, 1];
  const many = await Promise.allSettled(sizes.map((size) => queue.run('double', size, { size, explain })));
  assert.deepEqual(
    many.map((r) => r.status),
    ['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'rejected'],
  );
  assert.equal(await queue.run('double', 1, { size: 99, explain }), 2);
  const last = queue.run('spin', null, { explain });
  const after = queue.run('double', 1, { explain });
  await Promise.all([queue.close(), assert.rejects(last, code('engine_closed')), assert.rejects(after)]);
  await assert.rejects(queue.run('double', 1, { explain }), code('engine_closed'));
});
