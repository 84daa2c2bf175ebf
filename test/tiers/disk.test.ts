import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs, { mkdtempSync, openSync, rmSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { type DiskFs, DiskIo } from '../../src/tiers/disk-io.js';
import { decodeRecord, encodeRecord, planLayout, SHARED } from '../../src/tiers/disk-layout.js';
import { keysOf, scanRecords } from '../../src/tiers/disk-scan.js';
import type { DiskAnswer } from '../../src/tiers/disk-thread.js';
import { DiskTier, type DiskTierOptions } from '../../src/tiers/disk-tier.js';

const FILE = 'kv-cache.bin';
const KEY = 'a'.repeat(64);
const BLOCK = 5000; // no multiple of a page
const LEN = 16;

interface Context {
  after(f: () => Promise<void>): void;
}

/** A folder that is removed when the test ends, after the tiers that `open` opened for it. */
function folder(t: Context): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-disk-'));
  t.after(async () => {
    for (const tier of opened.splice(0)) await tier.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return dir;
}

const opened: DiskTier[] = [];

/** Stays open until the test ends. */
function open(o: DiskTierOptions): DiskTier {
  const tier = DiskTier.open(o);
  opened.push(tier);
  return tier;
}

const options = (dir: string, more: Partial<DiskTierOptions> = {}): DiskTierOptions => ({
  dir,
  bytes: 20 * 8192 + 65536,
  blockBytes: BLOCK,
  blockLen: LEN,
  key: KEY,
  ...more,
});

const text = (length: number, first = 0): Int32Array => Int32Array.from({ length }, (_, i) => first + i);
const shared = (bytes = BLOCK): Uint8Array => new Uint8Array(new SharedArrayBuffer(bytes));
const kvOf = (seed: number): Uint8Array => {
  const kv = shared();
  for (let i = 0; i < kv.length; i++) kv[i] = (i * 31 + seed * 17) & 255;
  return kv;
};

const write = (tier: DiskTier, slot: number, prefix: Int32Array, kv: Uint8Array, namespace = SHARED) =>
  new Promise<DiskAnswer>((resolve) => tier.write(slot, namespace, prefix, kv, resolve));
const read = (tier: DiskTier, slot: number, kv: Uint8Array) =>
  new Promise<DiskAnswer>((resolve) => tier.read(slot, kv, resolve));

test('what was written is read again to the byte, also by the next process, from the beginning of its text on', async (t) => {
  const dir = folder(t);
  const tier = DiskTier.open(options(dir));
  assert.deepEqual(tier.found, []);
  await write(tier, 3, text(16), kvOf(1));
  await write(tier, 1, text(32), kvOf(2));
  await write(tier, 0, text(37), kvOf(3));
  await write(tier, 2, text(16, 100), kvOf(4), 77);
  await tier.close();

  const next = open(options(dir));
  const tokens = next.found.map((n) => ({ ...n, tokens: [...n.tokens] }));
  const of = (slot: number) => tokens.findIndex((n) => n.slot === slot);
  assert.equal(tokens.length, 4);
  assert.deepEqual(tokens[of(3)], { slot: 3, parent: -1, namespace: SHARED, tokens: [...text(16)] });
  assert.deepEqual(tokens[of(1)], { slot: 1, parent: of(3), namespace: SHARED, tokens: [...text(16, 16)] });
  assert.deepEqual(tokens[of(0)], { slot: 0, parent: of(1), namespace: SHARED, tokens: [...text(5, 32)] });
  assert.deepEqual(tokens[of(2)], { slot: 2, parent: -1, namespace: 77, tokens: [...text(16, 100)] });
  for (const [slot, seed] of [
    [3, 1],
    [1, 2],
    [0, 3],
    [2, 4],
  ] as const) {
    const kv = shared();
    const answer = await read(next, slot, kv);
    assert.ok(answer.ok, answer.error ?? 'checksum');
    assert.deepEqual(kv, kvOf(seed));
  }
});

test('what hangs on nothing is not found: an erased beginning takes what follows it along', async (t) => {
  const dir = folder(t);
  const tier = DiskTier.open(options(dir));
  await write(tier, 0, text(16), kvOf(1));
  await write(tier, 1, text(32), kvOf(2));
  await write(tier, 2, text(48), kvOf(3));
  await write(tier, 3, text(16, 9), kvOf(4));
  tier.erase(1);
  await tier.close();
  const next = open(options(dir));
  assert.deepEqual(next.found.map((n) => n.slot).sort(), [0, 3]);
});

test('of two slots with the same text the later one counts', async (t) => {
  const dir = folder(t);
  const tier = DiskTier.open(options(dir));
  await write(tier, 5, text(16), kvOf(1));
  await write(tier, 2, text(16), kvOf(2));
  await tier.close();
  const next = open(options(dir));
  assert.deepEqual(
    next.found.map((n) => n.slot),
    [2],
  );
});

test('a record torn at any byte, or with any bit flipped, is an empty slot', () => {
  const layout = planLayout(2 ** 20, BLOCK, LEN, KEY);
  const record = (first: number) => {
    const prefix = text(16, first);
    return encodeRecord(layout, {
      ...keysOf(SHARED, prefix, LEN),
      namespace: SHARED,
      end: 16,
      tokens: prefix,
      dataCrc: first,
      stamp: first,
    });
  };
  const older = record(1);
  const newer = record(2);
  for (let n = 1; n < newer.length; n++) {
    const torn = Buffer.concat([newer.subarray(0, n), older.subarray(n)]);
    const found = decodeRecord(layout, torn);
    // the bytes behind the tokens are the same in both: there a torn record is a whole one
    if (found) assert.ok(torn.equals(newer) || torn.equals(older), `torn at ${n}`);
  }
  for (let bit = 0; bit < 8 * newer.length; bit++) {
    const flipped = Buffer.from(newer);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(decodeRecord(layout, flipped), null, `bit ${bit}`);
  }
});

test('a flipped bit anywhere in the stored KV is noticed when it is read', async (t) => {
  const dir = folder(t);
  const tier = open(options(dir));
  const kv = kvOf(1);
  await write(tier, 1, text(16), kv);
  const fd = openSync(path.join(dir, FILE), 'r+');
  for (let i = 0; i < 200; i++) {
    const at = i === 0 ? 0 : i === 1 ? BLOCK - 1 : Math.floor(Math.random() * BLOCK);
    const place = tier.layout.dataAt + tier.layout.slotBytes + at;
    writeSync(fd, Uint8Array.of(kv[at]! ^ (1 << (i % 8))), 0, 1, place);
    assert.equal((await read(tier, 1, shared())).ok, false, `byte ${at}`);
    writeSync(fd, Uint8Array.of(kv[at]!), 0, 1, place);
  }
  assert.ok((await read(tier, 1, shared())).ok);
});

test('a process killed at any moment leaves a file of which every slot found is whole', async (t) => {
  const dir = folder(t);
  let found = 0;
  for (let round = 0; round < 6; round++) {
    const child = fork(new URL('./disk-writer.js', import.meta.url), [dir], { stdio: 'inherit' });
    await once(child, 'message');
    await new Promise((r) => setTimeout(r, 10 + 40 * round));
    child.kill('SIGKILL');
    await once(child, 'exit');
    const tier = DiskTier.open(options(dir));
    try {
      for (const { slot, tokens } of tier.found) {
        const kv = shared();
        const { ok } = await read(tier, slot, kv);
        // a slot that was being overwritten has a wrong checksum; what has a right one is what its tokens say
        if (ok) assert.deepEqual(kv, kvOf(tokens[0]!));
      }
      found += tier.found.length;
    } finally {
      await tier.close();
    }
  }
  assert.ok(found > 0);
});

test('another model, layout or size begins anew', async (t) => {
  for (const change of [{ key: 'b'.repeat(64) }, { blockBytes: 6000 }, { bytes: 10 * 8192 + 65536 }]) {
    const dir = folder(t);
    const tier = DiskTier.open(options(dir));
    await write(tier, 0, text(16), kvOf(1));
    await tier.close();
    const other = DiskTier.open(options(dir, change));
    assert.deepEqual(other.found, [], JSON.stringify(change));
    await other.close();
    const again = DiskTier.open(options(dir));
    assert.deepEqual(again.found, []);
    await again.close();
  }
});

test('a file that is none, or cut off, begins anew', async (t) => {
  const dir = folder(t);
  const file = path.join(dir, FILE);
  for (const content of [Buffer.alloc(0), randomBytes(100_000), Buffer.alloc(statOf(dir))]) {
    writeFileSync(file, content);
    const tier = DiskTier.open(options(dir));
    assert.deepEqual(tier.found, []);
    await write(tier, 0, text(16), kvOf(1));
    await tier.close();
  }
  fs.truncateSync(file, statSync(file).size - 1);
  const cut = DiskTier.open(options(dir));
  assert.deepEqual(cut.found, []);
  await cut.close();
});

function statOf(dir: string): number {
  const { fileBytes } = planLayout(options(dir).bytes, BLOCK, LEN, KEY);
  return fileBytes;
}

test('the file takes its room at once, no more than was given, and is readable by its owner only', async (t) => {
  const dir = folder(t);
  open(options(dir));
  const { size, mode, blocks } = statSync(path.join(dir, FILE));
  assert.ok(size <= options(dir).bytes && size > 0.8 * options(dir).bytes, `${size}`);
  assert.equal(mode & 0o777, 0o600);
  if (process.platform === 'linux')
    assert.ok(blocks * 512 >= size - 4096, `${blocks * 512} of ${size} bytes are allocated`);
});

test('too small, in use, or a link: an error that says what to do', async (t) => {
  const dir = folder(t);
  assert.throws(() => DiskTier.open(options(dir, { bytes: 4096 })), /room for one KV block of 4.9 KiB/);
  assert.throws(() => DiskTier.open(options(dir, { bytes: 2 ** 50 })), /are free there: give it a smaller size/);
  const tier = DiskTier.open(options(dir));
  assert.throws(() => DiskTier.open(options(dir)), /is in use by process/);
  await tier.close();
  const other = folder(t);
  symlinkSync(path.join(dir, FILE), path.join(other, FILE));
  assert.throws(() => DiskTier.open(options(other)), /cannot be used/);
});

// ---------------------------------------------------------------- a disk that fails

/** A DiskIo over a real file, whose n-th write or read fails. */
function faultyIo(t: Context, fault: Partial<DiskFs>) {
  const layout = planLayout(options('').bytes, BLOCK, LEN, KEY);
  const fd = openSync(path.join(folder(t), FILE), 'w+');
  t.after(async () => fs.closeSync(fd));
  const io = new DiskIo(fd, layout, new Uint32Array(layout.slots), { ...fs, ...fault });
  const table = () => {
    const bytes = Buffer.alloc(layout.slots * layout.recordBytes);
    fs.readSync(fd, bytes, 0, bytes.length, 4096);
    return bytes;
  };
  const store = (slot: number, prefix: Int32Array, kv: Uint8Array) =>
    io.write(
      slot,
      { ...keysOf(SHARED, prefix, LEN), namespace: SHARED, end: prefix.length, tokens: prefix.slice(-LEN), stamp: 1 },
      kv,
    );
  return { io, layout, table, store };
}

test('writes and reads that move only a part are continued', (t) => {
  type Move = DiskFs['readSync'];
  const some =
    (move: Move): Move =>
    (fd, b, at, n, to) =>
      move(fd, b, at, Math.min(n, 777), to);
  const { io, store, table, layout } = faultyIo(t, { writeSync: some(fs.writeSync), readSync: some(fs.readSync) });
  store(2, text(16), kvOf(5));
  const kv = shared();
  assert.ok(io.read(2, kv));
  assert.deepEqual(kv, kvOf(5));
  assert.equal(scanRecords(layout, table()).nodes.length, 1);
});

test('a disk that is full or broken at any write leaves the slot empty or what it was', (t) => {
  for (const code of ['ENOSPC', 'EIO']) {
    for (let failing = 1; failing <= 2; failing++) {
      let n = 0;
      let armed = false;
      const fault = {
        writeSync: ((fd: number, b: Uint8Array, at: number, count: number, to: number) => {
          if (armed && ++n === failing) {
            fs.writeSync(fd, b, at, count >> 1, to); // a part arrives
            throw Object.assign(new Error(code), { code });
          }
          return fs.writeSync(fd, b, at, count, to);
        }) as DiskFs['writeSync'],
      };
      const { io, store, table, layout } = faultyIo(t, fault);
      store(1, text(16), kvOf(1));
      armed = true;
      assert.throws(() => store(1, text(16, 50), kvOf(2)), new RegExp(code));
      const kv = shared();
      const ok = io.read(1, kv);
      const { nodes } = scanRecords(layout, table());
      for (const node of nodes) assert.equal(node.tokens[0], 0, 'a record that was never whole');
      assert.equal(ok, false, 'the KV of neither text is whole');
    }
  }
});

test('a disk that cannot be written makes a pause, says so once, and is tried again', async (t) => {
  const problems: string[] = [];
  const program = { script: new URL('./faulty-disk.js', import.meta.url).href, data: null };
  const tier = open(options(folder(t), { program, onProblem: (p) => problems.push(p) }));
  assert.equal(tier.writable, true);
  // the faulty thread refuses slot 7 and cannot read slot 8
  const answer = await write(tier, 7, text(16), kvOf(1));
  assert.deepEqual([answer.ok, answer.error], [false, 'ENOSPC: no space left on device']);
  assert.equal(tier.writable, false);
  await write(tier, 7, text(16), kvOf(1));
  assert.equal(problems.length, 1);
  assert.match(problems[0]!, /cannot be written: ENOSPC.*computed again/);
  await write(tier, 1, text(16), kvOf(1));
  assert.match(problems[1]!, /can be written again/);
  const lost = await read(tier, 8, shared());
  assert.deepEqual([lost.ok, lost.error], [false, 'EIO: i/o error']);
  assert.ok((await read(tier, 1, shared())).ok);
});

test('a disk thread that dies ends every order, and the next ones', async (t) => {
  const problems: string[] = [];
  const program = { script: new URL('./faulty-disk.js', import.meta.url).href, data: null };
  const tier = DiskTier.open(options(folder(t), { program, onProblem: (p) => problems.push(p) }));
  const answers = await Promise.all([write(tier, 9, text(16), kvOf(1)), read(tier, 0, shared())]);
  assert.deepEqual(
    answers.map((a) => a.ok),
    [false, false],
  );
  assert.equal(tier.writable, false);
  assert.equal((await read(tier, 0, shared())).ok, false);
  assert.equal(problems.length, 1);
  await tier.close();
});

test('a disk that does not answer is left behind when it is closed', async (t) => {
  const program = { script: new URL('./faulty-disk.js', import.meta.url).href, data: null };
  const tier = DiskTier.open(options(folder(t), { program }));
  const written = write(tier, 10, text(16), kvOf(1));
  await tier.close(50);
  assert.equal((await written).ok, false);
});

test('closed twice, it closes its file once: the number may be another file by then', async (t) => {
  const dir = folder(t);
  const tier = DiskTier.open(options(dir));
  await Promise.all([tier.close(), tier.close()]);
  const fds = Array.from({ length: 8 }, () => openSync(path.join(dir, FILE), 'r'));
  await tier.close();
  for (const fd of fds) fs.closeSync(fd);
});
