/** Sessions as trees: a fork hangs below the session that it was forked from. Pure. */

export interface Session {
  id: string;
  state: 'new' | 'active' | 'cached' | 'evicted';
  tokens: number;
  cached_tokens: number;
  /** Seconds since the epoch. */
  last_used: number;
  forked_from: { id: string; tokens: number } | null;
}

export interface Tree {
  session: Session;
  forks: Tree[];
}

/**
 * Trees, the one that was used last first. A fork whose origin is gone stands by itself; so does the second of two whose names
 * were used again in a circle.
 */
export function forest(sessions: readonly Session[]): Tree[] {
  const trees = new Map(sessions.map((session): [string, Tree] => [session.id, { session, forks: [] }]));
  const roots: Tree[] = [];
  for (const tree of trees.values()) {
    const origin = trees.get(tree.session.forked_from?.id ?? '');
    if (!origin || isBelow(tree.session.id, origin.session, trees)) roots.push(tree);
    else origin.forks.push(tree);
  }
  const sort = (list: Tree[]): Tree[] => {
    for (const t of list) sort(t.forks);
    return list.sort((a, b) => lastUse(b) - lastUse(a) || a.session.id.localeCompare(b.session.id));
  };
  return sort(roots);
}

/** Is the session `id` itself, or does it come from it? */
function isBelow(id: string, session: Session, trees: Map<string, Tree>): boolean {
  const seen = new Set<string>();
  for (let at: Session | undefined = session; at && !seen.has(at.id); ) {
    if (at.id === id) return true;
    seen.add(at.id);
    at = trees.get(at.forked_from?.id ?? '')?.session;
  }
  return false;
}

const lastUse = (t: Tree): number => Math.max(t.session.last_used, ...t.forks.map(lastUse));

/** Of the trees, what leads to sessions that match; `left` of them at most, and how many there were. */
export function search(
  trees: readonly Tree[],
  matches: (s: Session) => boolean,
  left: number,
): { shown: Tree[]; found: number } {
  let found = 0;
  const keep = (list: readonly Tree[]): Tree[] =>
    list.flatMap((t) => {
      const own = matches(t.session);
      if (own) found++;
      const fits = own && found <= left;
      const forks = keep(t.forks);
      return fits || forks.length > 0 ? [{ session: t.session, forks }] : [];
    });
  return { shown: keep(trees), found };
}
