"""The store in Qdrant: one collection with a named vector a column, the document as payload.

By URL a server; without one, qdrant-client's local mode in the store's folder, which one process holds
at a time: it is opened for each piece of work and closed after it.
"""

import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models
from store import MOST, StoreError, agree, conditions, secret

WAITING = 30.0
PAGE = 1000
_NAMES = uuid.UUID("3c2f6f52-6a8e-5b8f-9a53-0d7f2f1c9e11")
"""Ids of points are UUIDs made of record ids under this one."""


class Qdrant:
    """See `store`; `settings` has ``url`` or, for the local mode, ``folder``."""

    def __init__(self, settings, spaces):
        self.settings, self.spaces = settings, spaces
        self.name = "tritondeck_" + settings["collection"]
        self.client = None

    # ------------------------------------------------------------------ connection

    def open(self, agreed=True):
        """Connect, and make what is missing. Raises `StoreError`; with `agreed` also for a collection
        of another model's vectors."""
        with self._at_work():
            self._prepare(agreed)
        return self

    def close(self):
        if self.client is not None:
            self.client.close()
            self.client = None

    @contextmanager
    def _at_work(self):
        """The client, in one's own hands in local mode; its errors in words."""
        try:
            if self.settings["url"]:
                if self.client is None:
                    key = secret(self.settings) or None
                    self.client = QdrantClient(url=self.settings["url"], api_key=key, timeout=60)
                yield self.client
                return
            self.client = self._local()
            try:
                yield self.client
            finally:
                self.close()
        except StoreError:
            raise
        # qdrant-client raises its own, httpx', grpc's and pydantic's exceptions, by transport.
        except Exception as error:
            raise StoreError("Qdrant: %s" % (str(error).strip() or type(error).__name__)) from error

    def _local(self):
        folder = Path(self.settings["folder"], "qdrant")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        until = time.monotonic() + WAITING
        while True:
            try:
                return QdrantClient(path=str(folder))
            except RuntimeError:  # another process has it
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _prepare(self, agreed=True):
        client = self.client
        if not client.collection_exists(self.name):
            hnsw = models.HnswConfigDiff(
                m=int(self.settings["hnsw_m"]),
                ef_construct=int(self.settings["hnsw_ef_construction"]),
            )
            vectors = {
                column: models.VectorParams(size=space["dimension"], distance=models.Distance.DOT)
                for column, space in self.spaces.items()
            }
            client.create_collection(self.name, vectors_config=vectors, hnsw_config=hnsw)
            # A point without vectors says whose they are: payload schemas differ by version.
            payload = {"tritondeck_spaces": self.spaces}
            client.upsert(self.name, [models.PointStruct(id=_id(""), vector={}, payload=payload)])
        found = client.retrieve(self.name, [_id("")], with_payload=True)
        if agreed:
            agree(found[0].payload["tritondeck_spaces"] if found else {}, self.spaces, self.name)

    # ------------------------------------------------------------------ records

    def known(self, ids):
        """Digest of those of `ids` that are there."""
        with self._at_work() as client:
            found = client.retrieve(self.name, [_id(one) for one in ids], with_payload=True)
        return {point.payload["id"]: point.payload["digest"] for point in found}

    def put(self, records):
        """Write `records` in one request; those of the same id are replaced."""
        points = [
            models.PointStruct(
                id=_id(record["id"]),
                vector={
                    column: np.asarray(vector, np.float32).tolist()
                    for column, vector in record["vectors"].items()
                },
                payload={key: record[key] for key in ("id", "digest", "document")},
            )
            for record in records
        ]
        with self._at_work() as client:
            client.upsert(self.name, points, wait=True)

    def count(self, wanted=None):
        with self._at_work() as client:
            return client.count(self.name, count_filter=_filter(wanted), exact=True).count

    def search(self, column, vector, top, wanted=None):
        """The nearest records by `column`: (id, score, document), the best first."""
        if column not in self.spaces:
            raise StoreError("this store has no %s vectors: %s" % (column, ", ".join(self.spaces)))
        with self._at_work() as client:
            found = client.query_points(
                self.name,
                query=np.asarray(vector, np.float32).tolist(),
                using=column,
                limit=max(1, min(int(top), MOST)),
                query_filter=_filter(wanted),
                search_params=models.SearchParams(hnsw_ef=int(self.settings["ef_search"])),
            ).points
        return [(p.payload["id"], p.score, p.payload["document"]) for p in found]

    def delete(self, ids=(), wanted=None):
        """Remove by ids, else by a filter; how many."""
        with self._at_work() as client:
            if ids:
                there = client.retrieve(self.name, [_id(one) for one in ids], with_payload=False)
                selector = models.PointIdsList(points=[point.id for point in there])
                count = len(there)
            else:
                count = client.count(self.name, count_filter=_filter(wanted), exact=True).count
                selector = models.FilterSelector(filter=_filter(wanted))
            if count:
                client.delete(self.name, selector, wait=True)
        return count

    def clear(self):
        """Remove the collection, whoever's vectors it holds."""
        with self._at_work() as client:
            client.delete_collection(self.name)
            self._prepare()

    # ------------------------------------------------------------------ indexes

    def index(self, again=False):
        """Qdrant keeps its indexes itself; asked for anew it merges and indexes all segments."""
        if again:
            with self._at_work() as client:
                client.update_collection(
                    self.name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1)
                )
        return []

    def size(self):
        """Bytes on disk; 0 where only the server knows."""
        if self.settings["url"]:
            return 0
        files = Path(self.settings["folder"], "qdrant").rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())


def _id(record):
    return str(uuid.uuid5(_NAMES, record))


def _filter(wanted):
    """A filter as Qdrant's, over the payload's ``document``; the point about spaces is never in it."""
    must = [models.IsEmptyCondition(is_empty=models.PayloadField(key="tritondeck_spaces"))]
    for key, operator, value in conditions(wanted or {}):
        field = "document." + key
        if operator == "eq" and isinstance(value, float):
            match = {"range": models.Range(gte=value, lte=value)}
        elif operator == "eq":
            match = {"match": models.MatchValue(value=value)}
        elif operator == "any":
            match = {"match": models.MatchAny(any=value)}
        else:
            match = {"range": models.Range(**{operator: value})}
        must.append(models.FieldCondition(key=field, **match))
    return models.Filter(must=must)
