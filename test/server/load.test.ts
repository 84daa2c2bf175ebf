import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Chunk, eventsOf, hello, rig, until } from '../support/http.js';

test('100 streams, a third of them cut off by their clients, some read slowly: none is malformed, none is left over', async (t) => {
  const text = 'abcdefghij'.repeat(12);
  const { post, get, engine } = await rig(t, { answer: () => text, delayMs: 4 });
  let finished = 0;
  let aborted = 0;
  const one = async (i: number): Promise<void> => {
    const gone = new AbortController();
    const cut = i % 3 === 0;
    const reading = (async () => {
      const response = await post('/v1/chat/completions', { messages: hello, stream: true }, {}, gone.signal);
      let got = '';
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        got += part;
        if (i % 10 === 1) await sleep(20);
      }
      return got;
    })();
    if (cut) {
      await sleep((i * 7) % 200);
      gone.abort();
      await reading.then(
        () => finished++,
        () => aborted++,
      );
      return;
    }
    const events = eventsOf(await reading);
    assert.equal(events.pop(), '[DONE]');
    const chunks = events as Chunk[];
    assert.equal(chunks.map((c) => c.choices[0]!.delta!.content ?? '').join(''), text);
    assert.equal(chunks.filter((c) => c.choices[0]!.finish_reason === 'stop').length, 1);
    finished++;
  };
  await Promise.all(Array.from({ length: 100 }, (_, i) => one(i)));
  assert.equal(finished + aborted, 100);
  assert.ok(aborted >= 20, `${aborted} aborted`);
  await until('every generation has ended', () => engine.running === 0);
  const metrics = await (await get('/metrics')).text();
  assert.match(metrics, /^longmind_http_generations_in_flight 0$/m);
  const outcomes = [...metrics.matchAll(/^longmind_generations_total\{endpoint="[^"]+",outcome="(\w+)"\} (\d+)$/gm)];
  assert.equal(
    outcomes.reduce((sum, m) => sum + Number(m[2]), 0),
    engine.calls.length,
  );
});
