/**
 * Moves what the cache manager orders between a fake device and places that remember the text behind every position, as
 * the device does. Adversarial: an order takes effect at its end, in any order; until then its target holds garbage.
 */
import assert from 'node:assert/strict';
import type { Manager } from '../../src/cache/manager.js';
import type { AdoptedNode, TransferOrder } from '../../src/cache/types.js';

type Text = (string | undefined)[];

interface Copy {
  text: Text;
  /** Of the node, as the manager says: see namespaceOf(). A conversation's own ones are told apart by what began them. */
  namespace: number;
  root: number;
  tokens: number[];
}

interface Pending {
  order: TransferOrder;
  /** What the source held when the order was handed out. */
  source: Text;
  copy: Omit<Copy, 'text'> | null;
  /** A load from disk has asked for its block. */
  arrived?: boolean;
}

export class FakeMover {
  /** Good copies, by slot. */
  readonly host = new Map<number, Copy>();
  readonly disk = new Map<number, Copy>();
  readonly pending: Pending[] = [];
  failedLoads = 0;
  done = 0;

  constructor(
    private readonly manager: Manager,
    private readonly memory: Text,
  ) {}

  take(max: number): number {
    const out: TransferOrder[] = [];
    const n = this.manager.takeOrders(out, max);
    assert.equal(out.length, n);
    for (const order of out) this.#begin({ ...order });
    return n;
  }

  #begin(order: TransferOrder): void {
    const { kind, host, disk } = order;
    if (kind === 'forget') this.disk.delete(disk);
    if (kind === 'demote') this.disk.delete(disk);
    if (kind === 'save') (host === -1 ? this.disk : this.host).delete(Math.max(host, disk));
    this.pending.push({ order, source: this.#source(order), copy: kind === 'forget' ? null : this.#about(order.node) });
    if (kind === 'load' && host !== -1) this.#spoil(order);
  }

  /** From now on the block is the order's. */
  #spoil({ id, block }: TransferOrder): void {
    for (let i = 0; i < this.#blockLen; i++) this.memory[this.#at(block) + i] = `loading ${id}`;
  }

  /** One of the loads from disk has its bytes, and goes on. False: nobody waits for them. */
  arrive(which: number): void {
    const loads = this.pending.filter((p) => p.order.kind === 'load' && p.order.host === -1 && !p.arrived);
    if (loads.length > 0) this.#arrive(loads[which % loads.length]!);
  }

  #arrive(load: Pending): void {
    load.arrived = true;
    if (this.manager.loadArrived(load.order.id)) this.#spoil(load.order);
    else load.order.block = -1;
  }

  #about(node: number): Omit<Copy, 'text'> {
    const { manager } = this;
    const tokens = new Int32Array(manager.config.sessionLen);
    const end = manager.prefixTokens(node, tokens);
    let root = node;
    while (root >= 0) root = manager.tiers!.lower.nodes.parent(root);
    return { namespace: manager.namespaceOf(node), root, tokens: [...tokens.subarray(0, end)] };
  }

  get #blockLen(): number {
    return this.manager.config.blockLen;
  }

  #at(block: number): number {
    return block * this.#blockLen;
  }

  #source({ kind, host, disk, block }: TransferOrder): Text {
    if (kind === 'forget') return [];
    if (kind === 'save') return this.memory.slice(this.#at(block), this.#at(block) + this.#blockLen);
    const copy = kind === 'load' && host === -1 ? this.disk.get(disk) : this.host.get(host);
    assert.ok(copy, `order ${kind} reads a slot without a copy`);
    return copy.text;
  }

  /** One of the saves under way has read its block, and goes on. */
  read(which: number): void {
    const saves = this.pending.filter((p) => p.order.kind === 'save' && p.order.block !== -1);
    const save = saves[which % saves.length];
    if (!save) return;
    assert.deepEqual(this.#source(save.order).slice(0, this.#length(save)), save.source.slice(0, this.#length(save)));
    this.manager.blockRead(save.order.id);
    assert.ok(!this.manager.pool.isSaving(save.order.block));
    save.order.block = -1;
  }

  /** Tokens of the node. */
  #length({ copy }: Pending): number {
    return ((copy!.tokens.length - 1) % this.#blockLen) + 1;
  }

  /** Ends one of the orders under way. */
  end(which: number, succeeds: boolean): void {
    if (this.pending.length === 0) return;
    const [ended] = this.pending.splice(which % this.pending.length, 1) as [Pending];
    const { order, source, copy } = ended;
    const { kind, host, disk } = order;
    // another load of the same slot found out meanwhile that the copy is bad
    const lost = kind === 'load' && host === -1 && !this.disk.has(disk);
    const ok = succeeds && !lost;
    if (kind === 'load' && host === -1 && ok && !ended.arrived) this.#arrive(ended);
    const { block } = order;
    // a load found out meanwhile that the copy is bad
    const bad = kind === 'demote' && !this.host.has(host);
    if (copy && !bad && !lost && !(kind === 'save' && block === -1)) {
      const length = this.#length(ended);
      assert.deepEqual(
        this.#source(order).slice(0, length),
        source.slice(0, length),
        `the source of a ${kind} was written`,
      );
    }
    const written = kind === 'load' && block !== -1 && (host !== -1 || ended.arrived);
    if (written) this.#endLoad(order, source, ok);
    else if (kind === 'save' && ok)
      (host === -1 ? this.disk : this.host).set(Math.max(host, disk), { ...copy!, text: source });
    else if (kind === 'demote' && ok && !bad) this.disk.set(disk, { ...copy!, text: source });
    if (kind === 'load' && !ok) {
      this.failedLoads++;
      (host === -1 ? this.disk : this.host).delete(Math.max(host, disk));
    }
    this.manager.orderDone(order.id, ok);
    this.done++;
    if (kind === 'save' && block !== -1) assert.ok(!this.manager.pool.isSaving(block));
  }

  #endLoad({ id, block }: TransferOrder, source: Text, ok: boolean): void {
    for (let i = 0; i < this.#blockLen; i++) {
      const at = this.#at(block) + i;
      assert.equal(this.memory[at], `loading ${id}`, 'a block was written, or used, while it was loaded');
      this.memory[at] = ok ? source[i] : undefined;
    }
  }

  /** Everything that is ordered is done. */
  drain(ok = true): void {
    for (let n = 0; this.take(Infinity) + this.pending.length > 0; n++) {
      assert.ok(n < 10_000, 'orders without end');
      while (this.pending.length > 0) this.end(0, ok);
    }
  }

  /** How many tokens of a text lie in good copies below, from `from` on without a gap. */
  reach(tokens: readonly number[], root: number, from: number, limit: number): number {
    const { host, disk } = this.manager.tiers!.lower;
    const known = (place: typeof host) => (entry: [number, Copy]) => place.good[entry[0]] === 1;
    const copies = [...[...this.host].filter(known(host)), ...[...this.disk].filter(known(disk))].map(
      ([, copy]) => copy,
    );
    const held = (p: number) => {
      const text = tokens.slice(0, p + 1).join();
      return copies.some((copy) => {
        // it holds the last block of its path only
        const start = copy.tokens.length - 1 - ((copy.tokens.length - 1) % this.#blockLen);
        return copy.root === root && p >= start && copy.tokens.slice(0, p + 1).join() === text;
      });
    };
    let p = from;
    while (p < limit && held(p)) p++;
    return p;
  }

  /** What a process that starts again finds on the disk: records whose parents are there, too. */
  records(): AdoptedNode[] {
    const all = [...this.disk.entries()].sort((a, b) => a[1].tokens.length - b[1].tokens.length);
    const index = new Map<string, number>();
    const out: AdoptedNode[] = [];
    for (const [slot, { tokens, namespace }] of all) {
      const start = tokens.length - 1 - ((tokens.length - 1) % this.#blockLen);
      const parent = start === 0 ? -1 : (index.get(`${namespace}:${tokens.slice(0, start).join()}`) ?? null);
      if (parent === null) continue;
      index.set(`${namespace}:${tokens.join()}`, out.length);
      out.push({ disk: slot, parent, namespace, tokens: Int32Array.from(tokens.slice(start)) });
    }
    return out;
  }
}
