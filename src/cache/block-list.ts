import type { BlockLinks } from './policy.js';

/** A doubly linked list of blocks, threaded through the pool's own link fields. Oldest first. */
export class BlockList {
  first = -1;
  last = -1;
  size = 0;

  constructor(private readonly links: BlockLinks) {}

  pushLast(b: number): void {
    const l = this.links;
    l.setPrevious(b, this.last);
    l.setNext(b, -1);
    if (this.last === -1) this.first = b;
    else l.setNext(this.last, b);
    this.last = b;
    this.size++;
  }

  pushFirst(b: number): void {
    const l = this.links;
    l.setNext(b, this.first);
    l.setPrevious(b, -1);
    if (this.first === -1) this.last = b;
    else l.setPrevious(this.first, b);
    this.first = b;
    this.size++;
  }

  remove(b: number): void {
    const l = this.links;
    const p = l.previous(b);
    const n = l.next(b);
    if (p === -1) this.first = n;
    else l.setNext(p, n);
    if (n === -1) this.last = p;
    else l.setPrevious(n, p);
    this.size--;
  }
}
