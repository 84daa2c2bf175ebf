/** What doctor and the metrics say of a session store. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startPostgres, startRedis } from '../../bench/store-servers.js';
import { fleet, say } from '../support/fleet.js';
import { finish } from '../support/spawn.js';

interface Finding {
  device: string;
  ok: boolean;
  detail: string;
}

async function doctor(store: string): Promise<Finding> {
  const { stdout, stderr } = await finish(['doctor', '--json', '--session-store', store]);
  const found = (JSON.parse(stdout || '[]') as Finding[]).find((f) => f.device === 'store');
  assert.ok(found, stderr);
  return found;
}

test('doctor says whether a store answers, and whether it may lose what it acknowledged', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'longmind-doctor-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const safe = await startRedis();
  t.after(() => safe.close());
  // an address with a password need not be among the arguments
  const file = join(folder, 'address');
  writeFileSync(file, `${safe.address}\n`);
  const found = await doctor(`@${file}`);
  assert.deepEqual([found.ok, found.detail.startsWith('Redis ')], [true, true], found.detail);

  const careless = await startRedis(['--appendfsync', 'everysec']);
  t.after(() => careless.close());
  const told = await doctor(careless.address);
  assert.equal(told.ok, false);
  assert.match(told.detail, /appendfsync is everysec/);
  const forgetful = await startRedis(['--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru']);
  t.after(() => forgetful.close());
  assert.match((await doctor(forgetful.address)).detail, /maxmemory-policy is allkeys-lru/);
  await careless.crash();
  const away = await doctor(careless.address);
  assert.equal(away.ok, false);
  assert.match(away.detail, /ECONNREFUSED/);

  const postgres = await startPostgres();
  t.after(() => postgres.close());
  const { ok, detail } = await doctor(postgres.address);
  assert.deepEqual([ok, /^PostgreSQL \d/.test(detail)], [true, true], detail);
});

test('metrics tell how the store answers, and a store that is careless is a problem that is told', async (t) => {
  const { replicas } = await fleet(t, 1, () => startRedis(['--appendonly', 'no']));
  const [one] = replicas;
  const problems: string[] = [];
  one!.engine.onProblem((problem) => problems.push(problem));
  await one!.ask('/v1/chat/completions', { session_id: 'anna', messages: say('Hello.') });
  const text = await (await fetch(`${one!.url}/metrics`)).text();
  assert.match(text, /^longmind_session_store_seconds_count [1-9]/m);
  assert.match(text, /^longmind_session_leases_lost_total 0$/m);
  assert.match(text, /^longmind_session_store_errors_total\{operation="write"\} 0$/m);
});
