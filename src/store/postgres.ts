/** Sessions in PostgreSQL: a row each. Every step is one statement, so that it is done whole or not at all. */
import type * as pg from 'pg';
import { errors } from '../errors.js';
import { decodeSession, encodeIds, encodeMarks } from './encoding.js';
import { type Change, type Lease, type SessionKey, type SessionStore, type StoreBounds, WRITERS } from './types.js';

/** Milliseconds; that for a connection includes waiting until one of them is free. */
const CONNECT_MS = 5_000;
const ANSWER_MS = 5_000;
const IDLE_MS = 60_000;
const CONNECTIONS = 8;
/** A thousand years. */
const FOREVER_MS = 3.2e13;

/**
 * Names are bytes: they may hold a zero, which text may not. `ids` is null in a row that is only held. Token ids do not
 * compress, and the length of what lies outside of the row is known without reading it.
 */
const SCHEMA = `
SELECT pg_advisory_xact_lock(7233147);
CREATE SEQUENCE IF NOT EXISTS longmind_tokens;
CREATE TABLE IF NOT EXISTS longmind_sessions (
  model text NOT NULL, owner bigint NOT NULL, id bytea NOT NULL,
  token bigint NOT NULL, expires timestamptz NOT NULL, used timestamptz NOT NULL DEFAULT clock_timestamp(),
  ids bytea, adapter text, marks text[] NOT NULL DEFAULT '{}', mark_bytes bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (model, owner, id));
ALTER TABLE longmind_sessions ALTER COLUMN ids SET STORAGE EXTERNAL;
ALTER TABLE longmind_sessions ADD COLUMN IF NOT EXISTS writers bigint[] NOT NULL DEFAULT '{}';
CREATE INDEX IF NOT EXISTS longmind_sessions_token ON longmind_sessions (token);
CREATE TABLE IF NOT EXISTS longmind_names (
  model text NOT NULL, owner bigint NOT NULL, name bytea NOT NULL, id bytea NOT NULL,
  PRIMARY KEY (model, owner, name),
  FOREIGN KEY (model, owner, id) REFERENCES longmind_sessions ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS longmind_names_id ON longmind_names (model, owner, id);
`;

const KEPT = 'ids, marks, adapter, extract(epoch FROM used)::float8 * 1000 AS used';

const ACQUIRE = `
INSERT INTO longmind_sessions AS s (model, owner, id, token, expires)
VALUES ($1, $2, $3, nextval('longmind_tokens'), clock_timestamp() + $4 * interval '1 ms')
ON CONFLICT (model, owner, id) DO UPDATE SET token = excluded.token, expires = excluded.expires
WHERE s.expires <= clock_timestamp()
RETURNING token, ${KEPT}`;

const LEFT = `
SELECT greatest(1, extract(epoch FROM expires - clock_timestamp()) * 1000)::float8 AS ms
FROM longmind_sessions WHERE model = $1 AND owner = $2 AND id = $3`;

const WRITE = `
WITH w AS (
  UPDATE longmind_sessions SET ids = substring(coalesce(ids, ''::bytea) FROM 1 FOR $5) || $6::bytea,
    marks = marks[1:$7] || $8::text[], adapter = $11, used = clock_timestamp(), expires = '-infinity',
    mark_bytes = (SELECT coalesce(sum(octet_length(m)), 0) FROM unnest(marks[1:$7] || $8::text[]) AS m),
    writers = ($4::bigint || writers)[1:${WRITERS}]
  WHERE model = $1 AND owner = $2 AND id = $3 AND token = $4 AND coalesce(octet_length(ids), 0) >= $5
  RETURNING 1),
gone AS (DELETE FROM longmind_names n USING w
  WHERE n.model = $1 AND n.owner = $2 AND n.id = $3 AND n.name = ANY($9::bytea[])),
named AS (INSERT INTO longmind_names SELECT $1, $2, name, $3 FROM w, unnest($10::bytea[]) AS name
  ON CONFLICT (model, owner, name) DO UPDATE SET id = excluded.id)
SELECT count(*)::int AS n FROM w`;

/** Beyond the bounds when all that was used later is counted. What is only held, and was for an hour, is nobody's. */
const TRIM = `
WITH kept AS (
  SELECT owner, id, used, row_number() OVER later AS n, sum(octet_length(ids) + mark_bytes) OVER later AS bytes
  FROM longmind_sessions WHERE model = $1 AND ids IS NOT NULL
  WINDOW later AS (ORDER BY used DESC, owner, id ROWS UNBOUNDED PRECEDING))
DELETE FROM longmind_sessions s WHERE model = $1 AND (
  (s.ids IS NULL AND s.expires < clock_timestamp() - interval '1 hour') OR
  (s.expires < clock_timestamp() AND (s.owner, s.id) IN (SELECT owner, id FROM kept WHERE n > $2 OR bytes > $3 OR used < clock_timestamp() - $4 * interval '1 ms')))`;

export class PostgresStore implements SessionStore {
  readonly #pool: pg.Pool;
  #schema: Promise<void> | null = null;

  /** `namespace`: of what belongs together; others in the same database do not see it. */
  constructor(
    { Pool }: Pick<typeof pg, 'Pool'>,
    url: string,
    private readonly namespace: string,
  ) {
    this.#pool = new Pool({
      connectionString: url,
      max: CONNECTIONS,
      connectionTimeoutMillis: CONNECT_MS,
      query_timeout: ANSWER_MS,
      statement_timeout: ANSWER_MS,
      idleTimeoutMillis: IDLE_MS,
      keepAlive: true,
      // a process that has nothing else to do ends
      allowExitOnIdle: true,
      application_name: 'longmind',
    });
    // of a connection that nobody uses at the moment
    this.#pool.on('error', () => {});
  }

  async acquire(key: SessionKey, ttlMs: number) {
    const [row] = await this.#query(ACQUIRE, [...this.#key(key), ttlMs]);
    if (row) {
      const lease = { ...key, token: Number(row.token) };
      return { lease, kept: row.ids && decodeSession(row) };
    }
    const [held] = await this.#query(LEFT, this.#key(key));
    throw errors.sessionElsewhere(key.id, held?.ms ?? 1);
  }

  async load(key: SessionKey) {
    const sql = `SELECT ${KEPT} FROM longmind_sessions WHERE model = $1 AND owner = $2 AND id = $3`;
    const [row] = await this.#query(sql, this.#key(key));
    return row?.ids ? decodeSession(row) : null;
  }

  async write(lease: Lease, { from, ids, adapter, keepMarks, marks, before, goneNames }: Change) {
    const names = marks.map((m) => m.name).filter((n) => n !== '');
    const [row] = await this.#query(WRITE, [
      ...this.#key(lease),
      lease.token,
      4 * from,
      encodeIds(ids),
      keepMarks,
      encodeMarks(marks, before),
      goneNames.map((n) => Buffer.from(n)),
      names.map((n) => Buffer.from(n)),
      adapter,
    ]);
    if (row?.n !== 1) throw errors.leaseLost(lease.id);
  }

  async writers(key: SessionKey) {
    const sql = 'SELECT writers FROM longmind_sessions WHERE model = $1 AND owner = $2 AND id = $3';
    const [row] = await this.#query(sql, this.#key(key));
    return row ? row.writers.map(Number) : [];
  }

  async drop(lease: Lease) {
    const sql = `DELETE FROM longmind_sessions WHERE model = $1 AND owner = $2 AND id = $3 AND token = $4 RETURNING 1`;
    const rows = await this.#query(sql, [...this.#key(lease), lease.token]);
    if (rows.length === 0) throw errors.leaseLost(lease.id);
  }

  async release(lease: Lease) {
    const args = [...this.#key(lease), lease.token];
    const at = 'model = $1 AND owner = $2 AND id = $3 AND token = $4';
    await this.#query(
      `WITH d AS (DELETE FROM longmind_sessions WHERE ${at} AND ids IS NULL)
      UPDATE longmind_sessions SET expires = '-infinity' WHERE ${at} AND ids IS NOT NULL`,
      args,
    );
  }

  async renew(leases: readonly Lease[], ttlMs: number) {
    const rows = await this.#query(
      `UPDATE longmind_sessions SET expires = clock_timestamp() + $3 * interval '1 ms'
      WHERE model = $1 AND token = ANY($2::bigint[]) AND expires > '-infinity' RETURNING token`,
      [this.namespace, leases.map((l) => l.token), ttlMs],
    );
    const held = new Set(rows.map((r) => Number(r.token)));
    return leases.filter((l) => !held.has(l.token));
  }

  async find(name: string, owner: number) {
    const sql = 'SELECT id FROM longmind_names WHERE model = $1 AND owner = $2 AND name = $3';
    const [row] = await this.#query(sql, [this.namespace, owner, Buffer.from(name)]);
    return row ? String(row.id) : null;
  }

  async list(owner: number) {
    const rows = await this.#query(
      `SELECT id, octet_length(ids) / 4 AS tokens, adapter, extract(epoch FROM used)::float8 * 1000 AS used
      FROM longmind_sessions WHERE model = $1 AND owner = $2 AND ids IS NOT NULL ORDER BY longmind_sessions.used`,
      [this.namespace, owner],
    );
    return rows.map(({ id, tokens, used, adapter }) => ({
      ...{ id: String(id), tokens: Number(tokens), lastUsed: Math.floor(used), adapter },
    }));
  }

  async trim({ sessions, bytes, idleMs }: StoreBounds) {
    await this.#ready();
    return (await this.#pool.query(TRIM, [this.namespace, sessions, bytes, idleMs || FOREVER_MS])).rowCount ?? 0;
  }

  async about() {
    const [row] = await this.#query('SHOW server_version', []);
    return `PostgreSQL ${row.server_version}`;
  }

  async weakness() {
    const [row] = await this.#query(
      `SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit`,
      [],
    );
    if (row.fsync === 'off') return 'fsync is off: a crash may lose or damage what was written';
    return row.commit === 'off' ? 'synchronous_commit is off: a crash loses the last writes' : null;
  }

  async close() {
    await this.#pool.end();
  }

  // ---------------------------------------------------------------- inside

  #key({ owner, id }: SessionKey): unknown[] {
    return [this.namespace, owner, Buffer.from(id)];
  }

  /** The tables, made when the server answers for the first time. */
  #ready(): Promise<void> {
    this.#schema ??= this.#pool.query(SCHEMA).then(
      () => {},
      (e) => {
        this.#schema = null;
        throw e;
      },
    );
    return this.#schema;
  }

  // biome-ignore lint/suspicious/noExplicitAny: rows are what the statement says
  async #query(sql: string, args: unknown[]): Promise<any[]> {
    await this.#ready();
    return (await this.#pool.query(sql, args)).rows;
  }
}
