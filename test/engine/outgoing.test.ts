import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonObject } from 'longmind-grammar';
import { Outgoing } from '../../src/engine/outgoing.js';
import type { ToWorker } from '../../src/engine/protocol.js';
import type { EngineRequest } from '../../src/engine/request.js';
import { random } from '../support/batch.js';
import { request } from '../support/core.js';

/** What the worker would hold, checked message by message. */
function open() {
  const messages: ToWorker[] = [];
  const held = new Set<number>();
  const wanted = new Set<number>();
  const outgoing = new Outgoing(
    (m) => {
      messages.push(m);
      if (m.type === 'grammar' && m.grammar) held.add(m.id);
      else if (m.type === 'grammar') assert.ok(held.delete(m.id), 'only what is there is dropped');
      else if (m.type === 'requests')
        for (const r of m.requests) assert.ok(r.grammar === null || held.has(r.grammar), `grammar ${r.grammar}`);
    },
    (id) => wanted.has(id),
  );
  const send = (id: number, grammar?: object) => {
    wanted.add(id);
    const sent: EngineRequest = { ...request(id, [1], null), grammar: outgoing.grammar(grammar) };
    outgoing.send(sent);
  };
  const sentGrammars = () => messages.filter((m) => m.type === 'grammar' && m.grammar).length;
  return { messages, held, wanted, outgoing, send, sentGrammars };
}

test('requests of one moment go in one message, without those that ended meanwhile', async () => {
  const { messages, wanted, send, outgoing } = open();
  for (const id of [1, 2, 3]) send(id);
  wanted.delete(2);
  assert.equal(messages.length, 0);
  await Promise.resolve();
  assert.deepEqual(
    messages.map((m) => m.type === 'requests' && m.requests.map((r) => r.id)),
    [[1, 3]],
  );
  assert.deepEqual([...outgoing.sent], [1, 3]);
});

test('a grammar crosses once, however many requests name it', async () => {
  const { send, sentGrammars, messages } = open();
  const grammar = compileJsonObject();
  for (let id = 1; id <= 20; id++) {
    send(id, grammar);
    if (id % 3 === 0) await Promise.resolve();
  }
  await Promise.resolve();
  assert.equal(sentGrammars(), 1);
  const sent = messages.flatMap((m) => (m.type === 'requests' ? m.requests : []));
  assert.deepEqual([sent.length, new Set(sent.map((r) => r.grammar)).size, typeof sent[0]!.grammar], [20, 1, 'number']);
});

test('however many grammars are in use, a request never names one that was dropped, and few are held', async () => {
  const { send, held, sentGrammars } = open();
  const grammars = Array.from({ length: 40 }, () => compileJsonObject());
  const r = random(3);
  for (let id = 1; id <= 3000; id++) {
    send(id, r(4) === 0 ? undefined : grammars[r(r(3) === 0 ? 40 : 6)]);
    // bursts of more grammars than are kept, too
    if (r(60) === 0) {
      await Promise.resolve();
      assert.ok(held.size <= 16, `${held.size} grammars are held`);
    }
  }
  await Promise.resolve();
  assert.ok(held.size <= 16);
  assert.ok(sentGrammars() > 40, 'some were dropped and sent again');
});
