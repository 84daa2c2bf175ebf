/** Random commands over a World. Each applies to whatever is there, so that none is wasted. */
import fc from 'fast-check';
import type { Reference, World } from './world.js';

/** A small number chooses among the sequences (modulo), amounts are shares in 0…255. */
export type Command =
  | { op: 'create'; owner: number | null; tokens: number[] }
  | { op: 'append'; who: number; tokens: number[] }
  | { op: 'match'; who: number }
  | { op: 'leader'; who: number }
  | { op: 'keep'; who: number }
  | { op: 'drop'; who: number }
  | { op: 'reserve'; who: number; share: number }
  | { op: 'truncate'; who: number; share: number }
  | { op: 'fork'; who: number; share: number }
  | { op: 'serve'; who: number }
  | { op: 'twin'; who: number }
  | { op: 'step'; fail: 'no' | 'cancelled' | 'broken' }
  | { op: 'device'; grants: number }
  | { op: 'restore'; who: number; share: number }
  | { op: 'comeBack'; who: number; share: number }
  | { op: 'evict'; count: number }
  | { op: 'cancelRestore'; who: number }
  | { op: 'orders'; max: number }
  | { op: 'read'; which: number }
  | { op: 'ends'; which: number; count: number; ok: boolean };

const who = fc.nat(11);
const share = fc.nat(255);
/** Few different tokens: texts that begin alike are what it is about. */
const tokens = (max: number) =>
  fc.oneof(
    { weight: 2, arbitrary: fc.array(fc.nat(1), { maxLength: max }) },
    { weight: 2, arbitrary: fc.nat(max).map((n) => new Array<number>(n).fill(1)) },
    { weight: 1, arbitrary: fc.array(fc.nat(5), { maxLength: 3 }) },
  );

export const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('create' as const),
      owner: fc.oneof({ weight: 4, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.nat(1) }),
      tokens: tokens(18),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('append' as const), who, tokens: tokens(7) }) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant('match' as const), who }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('leader' as const), who }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('reserve' as const), who, share }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('serve' as const), who }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('twin' as const), who }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('step' as const),
      fail: fc.constantFrom('no', 'no', 'no', 'no', 'no', 'no', 'cancelled', 'broken') as fc.Arbitrary<
        'no' | 'cancelled' | 'broken'
      >,
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('keep' as const), who }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('drop' as const), who }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('truncate' as const), who, share }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('fork' as const), who, share }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('restore' as const), who, share }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('comeBack' as const), who, share }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('evict' as const), count: fc.nat(12) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('cancelRestore' as const), who }) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant('orders' as const), max: fc.constantFrom(1, 2, Infinity) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('read' as const), which: fc.nat(5) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('ends' as const),
      which: fc.nat(20),
      count: fc.constantFrom(1, 1, 2, 20),
      ok: fc.constantFrom(true, true, true, false),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('device' as const), grants: fc.constantFrom(0, 1, 2, Infinity, Infinity) }),
  },
);

export const config = fc.record({
  blocks: fc.integer({ min: 1, max: 12 }),
  shape: fc.constantFrom([4, 24], [1, 12], [3, 20], [16, 40], [19, 19], [8, 64]),
  chunkSize: fc.constantFrom(-1, 0, 1, 5),
  policy: fc.constant('lru' as const),
  prefixCaching: fc.constantFrom(true, true, true, false),
  maxSequences: fc.constantFrom(3, 10, 30),
  maxTokens: fc.constantFrom(60, 1000, 1000),
  tiers: fc.constantFrom(
    undefined,
    undefined,
    { host: 0, disk: 1 },
    { host: 0, disk: 3 },
    { host: 0, disk: 40, maxWrites: 2 },
    { host: 1, disk: 0 },
    { host: 12, disk: 0 },
    { host: 1, disk: 1, maxWrites: 1 },
    { host: 2, disk: 5, maxWrites: 4 },
    { host: 8, disk: 2 },
    { host: 30, disk: 30, maxWrites: 30 },
  ),
});

/** Names of all operations, for counting them. */
export const OPERATIONS: readonly Command['op'][] = [
  'create',
  'append',
  'match',
  'leader',
  'keep',
  'drop',
  'reserve',
  'truncate',
  'fork',
  'serve',
  'twin',
  'step',
  'device',
  'restore',
  'comeBack',
  'evict',
  'cancelRestore',
  'orders',
  'read',
  'ends',
];

export function run(world: World, c: Command): void {
  if (c.op === 'create') world.create(c.owner, c.tokens);
  else if (c.op === 'step') world.step(c.fail);
  else if (c.op === 'device') world.grants = c.grants;
  else if (c.op === 'evict') world.evict(c.count);
  else if (c.op === 'orders') world.mover?.take(c.max);
  else if (c.op === 'read') {
    world.mover?.read(c.which);
    world.mover?.arrive(c.which);
  } else if (c.op === 'ends') for (let n = 0; n < c.count; n++) world.mover?.end(c.which + n, c.ok);
  else if (world.sequences.length > 0) runOn(world, world.sequences[c.who % world.sequences.length]!, c);
}

function runOn(world: World, r: Reference, c: Extract<Command, { who: number }>): void {
  if (c.op === 'append') world.append(r, c.tokens);
  else if (c.op === 'match') world.match(r);
  else if (c.op === 'leader') checkLeader(world, r);
  else if (c.op === 'serve') serve(world, r);
  else if (c.op === 'twin') twin(world, r);
  else if (c.op === 'restore') world.restore(r, c.share / 255);
  else if (c.op === 'comeBack') comeBack(world, r, c.share);
  else if (c.op === 'cancelRestore') world.cancelRestore(r);
  else if (c.op === 'keep') world.release(r, 'keep');
  else if (c.op === 'drop') world.release(r, 'drop');
  else if (c.op === 'truncate') world.truncate(r, scale(c.share, r.tokens.length));
  else if (c.op === 'fork') world.fork(r, scale(c.share, r.tokens.length));
  else {
    if (!r.active) world.match(r);
    const computed = world.manager.computed(r.id);
    world.reserve(r, computed + scale(c.share, r.tokens.length - computed));
  }
}

/** A whole turn: that is what fills the pool. */
function serve(world: World, r: Reference): void {
  world.match(r);
  if (world.reserve(r, r.tokens.length)) world.step('no');
  world.release(r, 'keep');
}

/** A talk that was computed, saved and evicted goes on. */
function comeBack(world: World, r: Reference, share: number): void {
  serve(world, r);
  world.mover?.take(Infinity);
  while (world.mover?.pending.length) world.mover.end(share, true);
  world.mover?.take(share % 3);
  world.evict(Infinity);
  world.restore(r, 0.5 + share / 510);
}

/** Somebody else asks the same while it is being answered. */
function twin(world: World, r: Reference): void {
  world.match(r);
  world.reserve(r, r.tokens.length);
  const other = world.create(r.owner, [...r.tokens]);
  if (other === null) return;
  world.match(other);
  checkLeader(world, other);
}

/** 255 → all of it. */
function scale(share: number, length: number): number {
  return Math.round((share / 255) * length);
}

function checkLeader(world: World, r: Reference): void {
  if (!r.active) return;
  if (world.manager.leader(r.id) !== -1) world.followers++;
  const seen = new Set<number>();
  for (let at = r.id; at !== -1; at = world.manager.leader(at)) {
    if (seen.has(at)) throw new Error('leaders form a circle');
    seen.add(at);
    const leader = world.manager.leader(at);
    if (leader !== -1 && world.manager.state(leader) !== 'active') throw new Error('an inactive leader');
  }
}
