/**
 * Turns of sessions that can be gone on from by a name of their own. A checkpoint is a length of its session, so that a
 * conversation of many turns is kept once; an older one is branched from. What a later turn was told stays part of it, also
 * when the name of the earlier turn is deleted.
 */
import type { Checkpoint } from '../types.js';
import type { Point, PointData, Session } from './session.js';

export interface CheckpointEvents {
  /** A session has a new checkpoint; all before it are known already. */
  onKept?: (point: Readonly<Point>) => void;
  /** The name is no longer one. */
  onUnnamed?: (session: Readonly<Session>, name: string) => void;
}

export class Checkpoints {
  /** By owner and name, the oldest first. */
  readonly #byName = new Map<string, Point>();
  /** Of all notes and heads, about. */
  bytes = 0;

  constructor(private readonly events: CheckpointEvents) {}

  get size(): number {
    return this.#byName.size;
  }

  find(name: string, owner: number): Point | null {
    return this.#byName.get(key(name, owner)) ?? null;
  }

  /** The next turn of a session. Heads that are equal to the last one's are kept once. */
  add(session: Session, data: PointData): Point {
    const before = session.points.at(-1);
    const head = before?.head === data.head ? before.head : data.head;
    const point: Point = { ...data, head, session };
    if (point.name !== '') {
      this.unname(point.name, session.owner);
      this.#byName.set(key(point.name, session.owner), point);
    }
    session.points.push(point);
    this.bytes += bytesOf(point, before);
    this.events.onKept?.(point);
    return point;
  }

  /** The turns of its session up to this one. */
  path(point: Point): Point[] {
    const { points } = point.session;
    return points.slice(0, points.indexOf(point) + 1);
  }

  info(point: Point): Checkpoint {
    const { session, ...data } = point;
    return { ...data, start: session.points[session.points.indexOf(point) - 1]?.end ?? 0 };
  }

  /** The session has other tokens from `length` on. */
  cut(session: Session, length: number): void {
    while ((session.points.at(-1)?.end ?? 0) > length) this.#pop(session);
  }

  /** The session is gone. */
  forget(session: Session): void {
    while (session.points.length > 0) this.#pop(session);
  }

  /** Nobody can ask for it any more. Turns at the end of a session that nobody can ask for are forgotten with it. */
  unname(name: string, owner: number): Session | null {
    const point = this.find(name, owner);
    if (!point) return null;
    this.#forgetName(point);
    point.name = '';
    const { session } = point;
    while (session.points.at(-1)?.name === '') this.#pop(session);
    this.events.onUnnamed?.(session, name);
    return session;
  }

  /** The oldest name; null: there is none. */
  oldest(): Point | null {
    return this.#byName.values().next().value ?? null;
  }

  /** Becomes the newest. */
  use(point: Point): void {
    const k = key(point.name, point.session.owner);
    if (this.#byName.delete(k)) this.#byName.set(k, point);
  }

  #pop(session: Session): void {
    const point = session.points.pop()!;
    this.#forgetName(point);
    this.bytes -= bytesOf(point, session.points.at(-1));
  }

  #forgetName(point: Point): void {
    if (point.name !== '') this.#byName.delete(key(point.name, point.session.owner));
  }
}

/** What is kept for it alone. */
const bytesOf = ({ note, head }: Point, before: Point | undefined): number =>
  2 * (note.length + (head === before?.head ? 0 : head.length));

const key = (name: string, owner: number): string => `${owner}:${name}`;
