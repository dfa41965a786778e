"""The store in PostgreSQL with pgvector: one table a collection, an HNSW index a column of vectors.

A batch is one transaction, so nothing is half-written. Documents are JSONB beside the vectors. The
connection is made anew once when it was lost.
"""

import json

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from private import Server, ServerError
from psycopg import sql
from psycopg.types.json import Jsonb
from store import MOST, RANGES, StoreError, agree, conditions, secret

SCHEMA = "tritondeck"
FEW = 500
"""So many records that fit a filter are compared one by one."""
INDEXED = 1000
"""Below so many records a scan is faster than an index, and exact."""


class Postgres:
    """See `store`; `settings` has ``url`` or, for a server of its own, ``folder``."""

    def __init__(self, settings, spaces):
        self.settings, self.spaces = settings, spaces
        self.server = None if settings["url"] else Server(settings["folder"], settings["packages"])
        self.table = sql.Identifier(SCHEMA, "records_" + settings["collection"])
        self.connection = None

    # ------------------------------------------------------------------ connection

    def open(self, agreed=True):
        """Connect, and make what is missing. Raises `StoreError`; with `agreed` also for a collection
        of another model's vectors."""
        try:
            self._connect()
            self._prepare(agreed)
        except ServerError as error:
            raise StoreError(str(error)) from error
        except psycopg.Error as error:
            raise StoreError("PostgreSQL: %s" % str(error).strip()) from error
        return self

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.server is not None:
            self.server.close()

    def _connect(self):
        words = {"connect_timeout": 10, "application_name": "tritondeck"}
        if self.server is not None:
            self.connection = psycopg.connect(**self.server.open(), **words, autocommit=True)
        else:
            if password := secret(self.settings):
                words["password"] = password
            self.connection = psycopg.connect(self.settings["url"], **words, autocommit=True)
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(self.connection)
        ef_search = int(self.settings["ef_search"])
        self.connection.execute(sql.SQL("SET hnsw.ef_search = {}").format(ef_search))
        # With a filter an index scan goes on until enough records fit.
        self.connection.execute("SET hnsw.iterative_scan = strict_order")

    def _prepare(self, agreed=True):
        """Schema and table. Vectors stay in their rows where a page holds them (toast_tuple_target):
        an exact search would have to gather them otherwise."""
        run, name = self.connection.execute, self.settings["collection"]
        with self.connection.transaction():
            # One at a time: CREATE … IF NOT EXISTS of two sessions may collide.
            run("SELECT pg_advisory_xact_lock(7208142)")
            run("CREATE SCHEMA IF NOT EXISTS tritondeck")
            run(
                "CREATE TABLE IF NOT EXISTS tritondeck.collections "
                "(name text PRIMARY KEY, spaces jsonb NOT NULL)"
            )
            columns = [
                sql.SQL("{} vector({})").format(sql.Identifier(column), space["dimension"])
                for column, space in self.spaces.items()
            ]
            made = (
                "CREATE TABLE IF NOT EXISTS {} (id text PRIMARY KEY, digest text NOT NULL, "
                "document jsonb NOT NULL, {}) WITH (toast_tuple_target = 8160)"
            )
            run(sql.SQL(made).format(self.table, sql.SQL(", ").join(columns)))
            run(
                "INSERT INTO tritondeck.collections VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (name, Jsonb(self.spaces)),
            )
            found = run("SELECT spaces FROM tritondeck.collections WHERE name = %s", (name,))
            if agreed:
                agree(found.fetchone()[0], self.spaces, name)

    def _do(self, work):
        """`work()`; once more over a new connection when this one was lost."""
        try:
            try:
                return work()
            except psycopg.OperationalError:
                if self.connection is not None and not self.connection.broken:
                    raise
                self._connect()
                return work()
        except ServerError as error:
            raise StoreError(str(error)) from error
        except psycopg.Error as error:
            raise StoreError("PostgreSQL: %s" % str(error).strip()) from error

    # ------------------------------------------------------------------ records

    def known(self, ids):
        """Digest of those of `ids` that are there."""
        query = sql.SQL("SELECT id, digest FROM {} WHERE id = ANY(%s)").format(self.table)
        return dict(self._do(lambda: self.connection.execute(query, (list(ids),)).fetchall()))

    def put(self, records):
        """Write `records` in one transaction; those of the same id are replaced."""
        names = ["id", "digest", "document", *self.spaces]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        news = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in names[1:]]
        copied = sql.SQL("COPY fresh ({}) FROM STDIN (FORMAT BINARY)").format(columns)
        merged = sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM fresh ON CONFLICT (id) DO UPDATE SET {2}"
        ).format(self.table, columns, sql.SQL(", ").join(news))
        rows = {record["id"]: self._row(record) for record in records}

        def work():
            with self.connection.transaction():
                run = self.connection.execute
                run(sql.SQL("CREATE TEMP TABLE fresh (LIKE {}) ON COMMIT DROP").format(self.table))
                with self.connection.cursor().copy(copied) as copy:
                    copy.set_types(["text", "text", "jsonb", *["vector"] * len(self.spaces)])
                    for row in rows.values():
                        copy.write_row(row)
                run(merged)

        self._do(work)

    def _row(self, record):
        vectors = record["vectors"]
        listed = [
            np.asarray(vectors[column], np.float32) if column in vectors else None
            for column in self.spaces
        ]
        return (record["id"], record["digest"], Jsonb(record["document"]), *listed)

    def count(self, wanted=None):
        where, values = _where(wanted or {})
        query = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self.table, where)
        return self._do(lambda: self.connection.execute(query, values).fetchone()[0])

    def search(self, column, vector, top, wanted=None):
        """The nearest records by `column`: (id, score, document), the best first."""
        if column not in self.spaces:
            raise StoreError("this store has no %s vectors: %s" % (column, ", ".join(self.spaces)))
        where, values = _where(wanted or {})
        # %b: binary. As text the vector would take longer to write and read than the search does.
        query = sql.SQL(
            "SELECT id, {0} <#> %b AS distance, document FROM {1} WHERE {0} IS NOT NULL AND {2} "
            "ORDER BY distance LIMIT %s"
        ).format(sql.Identifier(column), self.table, where)
        count = max(1, min(int(top), MOST))
        given = (np.asarray(vector, np.float32), *values, count)
        if wanted:
            rows = self._do(lambda: self._filtered(query, given, where, values))
        else:
            rows = self._do(lambda: self.connection.execute(query, given).fetchall())
        return [(name, -distance, document) for name, distance, document in rows]

    def _filtered(self, query, given, where, values):
        """Rows of a search with a filter: exact where few records fit, else along the index.

        The planner knows nothing of what a filter fits, and would compare a tenth of a large
        collection one by one.
        """
        some = sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {} WHERE {} LIMIT {}) AS fitting")
        limit, run = FEW + 1, self.connection.execute
        with self.connection.pipeline(), self.connection.transaction():
            run("SET LOCAL enable_seqscan = off")
            few = run(some.format(self.table, where, limit), values).fetchone()[0] < limit
            if few:
                run("SET LOCAL enable_indexscan = off")
                return run(query, given).fetchall()
            run("SET LOCAL enable_bitmapscan = off")
            rows = run(query, given).fetchall()
        if len(rows) < given[-1]:  # the index gave up before so many were found
            rows = run(query, given).fetchall()
        return rows

    def delete(self, ids=(), wanted=None):
        """Remove by ids, else by a filter; how many."""
        where, values = (sql.SQL("id = ANY(%s)"), [list(ids)]) if ids else _where(wanted or {})
        query = sql.SQL("DELETE FROM {} WHERE {}").format(self.table, where)
        return self._do(lambda: self.connection.execute(query, values).rowcount)

    def clear(self):
        """Remove the collection, whoever's vectors it holds."""

        def work():
            with self.connection.transaction():
                self.connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.table))
                self.connection.execute(
                    "DELETE FROM tritondeck.collections WHERE name = %s",
                    (self.settings["collection"],),
                )
                self._prepare()

        self._do(work)

    # ------------------------------------------------------------------ indexes

    def index(self, again=False):
        """Make the indexes that a collection of this size should have, or make them anew; their names."""
        if self.count() < INDEXED and not again:
            return []
        self._do(self._documents)
        return [
            self._do(lambda column=column: self._index(column, again)) for column in self.spaces
        ]

    def _documents(self):
        """An index over documents, for filters that few records fit."""
        name = sql.Identifier("records_%s_document" % self.settings["collection"])
        made = "CREATE INDEX IF NOT EXISTS {} ON {} USING gin (document jsonb_path_ops)"
        self.connection.execute(sql.SQL(made).format(name, self.table))

    def _index(self, column, again):
        name = "records_%s_%s" % (self.settings["collection"], column)
        identifier = sql.Identifier(SCHEMA, name)
        with self.connection.transaction():
            run = self.connection.execute
            run(
                sql.SQL("SET LOCAL maintenance_work_mem = {}").format(self.settings["build_memory"])
            )
            if again:
                run(sql.SQL("DROP INDEX IF EXISTS {}").format(identifier))
            made = (
                "CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({} vector_ip_ops) "
                "WITH (m = {}, ef_construction = {})"
            )
            run(
                sql.SQL(made).format(
                    sql.Identifier(name),
                    self.table,
                    sql.Identifier(column),
                    int(self.settings["hnsw_m"]),
                    int(self.settings["hnsw_ef_construction"]),
                )
            )
        self.connection.execute(sql.SQL("ANALYZE {}").format(self.table))
        return name

    def size(self):
        """Bytes of records and indexes."""
        query = sql.SQL("SELECT pg_total_relation_size({})").format(
            sql.Literal("tritondeck.records_" + self.settings["collection"])
        )
        return self._do(lambda: self.connection.execute(query).fetchone()[0])


def _where(wanted):
    """A filter as SQL over ``document``, values apart."""
    parts, values = [sql.SQL("TRUE")], []
    for key, operator, value in conditions(wanted):
        if operator == "eq":
            parts.append(sql.SQL("document @> %s"))
            values.append(Jsonb({key: value}))
        elif operator == "any":
            parts.append(sql.SQL("document -> %s = ANY(%s::jsonb[])"))
            values += [key, [json.dumps(item) for item in value]]
        else:
            # CASE: the cast must not be tried on what is no number.
            number = (
                "CASE WHEN jsonb_typeof(document -> %s) = 'number' "
                "THEN (document ->> %s)::numeric {} %s ELSE FALSE END"
            )
            parts.append(sql.SQL(number).format(sql.SQL(RANGES[operator])))
            values += [key, key, value]
    return sql.SQL(" AND ").join(parts), values
