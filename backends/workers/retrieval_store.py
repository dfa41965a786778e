"""Work on the store of a retrieval model: fill, count, delete, rebuild its indexes.

Runs in the `retrieval` environment, imports nothing of tritondeck but the store's own sources, which
stand beside the match model (``--model-folder``, its version folder). Python 3.10 syntax.

``fill`` takes a folder or a file of JSON lines. A line is an object with ``image`` (a path, relative
to the file) and/or ``caption``; ``id`` where it has one (else the path, or a digest of the caption);
every other key is kept in the document. A folder is its ``captions.jsonl`` (or ``metadata.jsonl``) where
it has one, else every image below it, with the text of a ``.txt`` of the same name as caption.

Vectors come from the served ensembles (``--url``). A batch is written in one transaction. What is in
the store already and unchanged is left alone, so a fill that was cut off goes on where it was. A record
that fails is told (a line ``[tritondeck] failed ID: why``) and the rest goes on.

The last line of the output is ``[tritondeck] result {JSON}``. Exit codes: 0 done, 1 an error (the last
line says which), 2 wrong usage, 3 done but for records that failed.
"""

import argparse
import hashlib
import http.client
import json
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
LISTS = ("captions.jsonl", "metadata.jsonl")
MOST_LINE = 1 << 20
MOST_FILE = 64 << 20
TOLD = 20
"""Failures that are told one by one; the rest is counted, all stand in the file."""


class Refused(Exception):
    """The work cannot be done; the message is for the operator."""


class BadRecord(Exception):
    """One record cannot be used."""


class Unreachable(Exception):
    """The server does not answer."""


def progress(fraction, message):
    print("[tritondeck] progress %.3f %s" % (fraction, message), flush=True)


# ---------------------------------------------------------------------------- what to fill with


def sources(place):
    """(record, folder that its paths are relative to), of a file of lines or of a folder."""
    if place.is_file():
        return lines_of(place)
    if not place.is_dir():
        raise Refused("there is no file or folder %s" % place)
    for name in LISTS:
        if (place / name).is_file():
            return lines_of(place / name)
    return images_of(place)


def lines_of(file):
    found = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                found.append((line, "%s:%d" % (file.name, number), file.parent))
    return found


def images_of(folder):
    """Every image below `folder`, as lines."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES):
        record = {"image": str(path.relative_to(folder))}
        beside = path.with_suffix(".txt")
        if beside.is_file():
            record["caption"] = beside.read_text(encoding="utf-8", errors="replace").strip()
        found.append((json.dumps(record), str(path.relative_to(folder)), folder))
    return found


def read(line, where, folder, spaces):
    """The record of one line, without vectors: id, digest, document, image's bytes, caption."""
    if len(line) > MOST_LINE:
        raise BadRecord("the line is longer than %d characters" % MOST_LINE)
    try:
        raw = json.loads(line)
        json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRecord("half of a character (a lone surrogate) cannot be stored") from error
    except (ValueError, RecursionError) as error:
        raise BadRecord("not JSON: %s" % error) from error
    if not isinstance(raw, dict):
        raise BadRecord("not a JSON object")
    path, caption = raw.get("image", ""), raw.get("caption", "")
    if not isinstance(path, str) or not isinstance(caption, str) or not (path or caption.strip()):
        raise BadRecord("neither image nor caption is a text")
    if "\0" in line or "\\u0000" in line:
        raise BadRecord("a character 0 cannot be stored")
    image = read_image(folder, path) if path else b""
    name = raw.get("id")
    if name in (None, ""):  # 0 is an id: lists are numbered from there
        name = path or hashlib.sha256(caption.encode()).hexdigest()[:24]
    made_of = [json.dumps(raw, sort_keys=True).encode(), image, json.dumps(spaces).encode()]
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in made_of))
    document = {key: value for key, value in raw.items() if key != "id"}
    return {
        "id": str(name),
        "digest": digest.hexdigest()[:32],
        "document": document,
        "image": image,
        "caption": caption.strip(),
        "where": where,
        "vectors": {},
    }


def read_image(folder, name):
    path = folder / name
    try:
        if path.stat().st_size > MOST_FILE:
            raise BadRecord("%s is larger than %d bytes" % (name, MOST_FILE))
        return path.read_bytes()
    except OSError as error:
        raise BadRecord("%s: %s" % (name, error.strerror or error)) from error


# ---------------------------------------------------------------------------- vectors


class Embedder:
    """Asks the served ensembles for vectors, over one connection."""

    threads = threading.local()

    @classmethod
    def of_thread(cls, url):
        """This thread's own."""
        if not hasattr(cls.threads, "mine"):
            cls.threads.mine = cls(url)
        return cls.threads.mine

    def __init__(self, url):
        parts = urlsplit(url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self.connection = kind(parts.hostname, parts.port, timeout=120)

    def vectors(self, model, tensor, values):
        """float32 [values, dimension]. Raises `BadRecord` with the server's words."""
        import numpy as np

        data = b"".join(struct.pack("<I", len(value)) + value for value in values)
        header = {
            "inputs": [
                {
                    "name": tensor,
                    "datatype": "BYTES",
                    "shape": [len(values), 1],
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            "outputs": [{"name": "EMBEDDING", "parameters": {"binary_data": True}}],
        }
        head = json.dumps(header).encode()
        status, length, body = self._post("/v2/models/%s/infer" % model, head, data)
        if status != 200:
            raise BadRecord(words_of(body))
        head, tail = (body[:length], body[length:]) if length else (body, b"")
        (output,) = [o for o in json.loads(head)["outputs"] if o["name"] == "EMBEDDING"]
        return np.frombuffer(tail, "<f4").reshape(output["shape"])

    def _post(self, path, head, data, again=True):
        headers = {"Inference-Header-Content-Length": str(len(head))}
        headers["Content-Type"] = "application/octet-stream"
        try:
            self.connection.request("POST", path, head + data, headers)
            answer = self.connection.getresponse()
            length = int(answer.getheader("Inference-Header-Content-Length") or 0)
            return answer.status, length, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            if again:
                return self._post(path, head, data, again=False)
            raise Unreachable("the server does not answer: %s" % error) from error


def words_of(body):
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace") or "an empty answer"


def embed(pool, records, options):
    """Give `records` their vectors, two requests at a time; one that fails gets `error`."""
    tasks = [("image", options.image_model, "IMAGE", lambda r: r["image"])]
    tasks.append(("text", options.text_model, "TEXT", lambda r: r["caption"].encode()))
    if options.sentence_model:
        tasks.append(("sentence", options.sentence_model, "TEXT", lambda r: r["caption"].encode()))
    for task in tasks:
        wanted = [record for record in records if task[3](record) and "error" not in record]
        starts = range(0, len(wanted), options.batch)
        parts = [wanted[first : first + options.batch] for first in starts]
        list(pool.map(lambda part, task=task: one_batch(options.url, task, part), parts))


def one_batch(url, task, part):
    """Vectors of one request; where it is refused, of each record alone."""
    column, model, tensor, value = task
    try:
        found = Embedder.of_thread(url).vectors(model, tensor, [value(record) for record in part])
        for record, vector in zip(part, found):  # noqa: B905
            record["vectors"][column] = vector
    except BadRecord as error:
        if len(part) == 1:
            part[0]["error"] = str(error)
            return
        for record in part:
            one_batch(url, task, [record])


# ---------------------------------------------------------------------------- verbs


class Filling:
    """One fill: what was done so far, and what failed."""

    def __init__(self, options, store, spaces, file):
        self.options, self.store, self.spaces, self.file = options, store, spaces, file
        self.done = {"written": 0, "unchanged": 0, "failed": 0}
        self.seen = set()
        self.pool = ThreadPoolExecutor(options.jobs)

    def chunk(self, lines):
        """Write the records of these lines that are new or changed, in one transaction."""
        records = [record for line in lines if (record := self._read(*line))]
        known = self.store.known([record["id"] for record in records])
        new = [r for r in records if known.get(r["id"]) != r["digest"]]
        self.done["unchanged"] += len(records) - len(new)
        embed(self.pool, new, self.options)
        for record in new:
            if "error" in record:
                self._failed(record["where"], record["error"])
        ready = [record for record in new if "error" not in record]
        if ready:
            self.store.put(ready)
        self.done["written"] += len(ready)
        self.file.flush()

    def _read(self, line, where, folder):
        try:
            record = read(line, where, folder, self.spaces)
            if record["id"] in self.seen:
                raise BadRecord("its id %s stands in an earlier line" % record["id"])
        except BadRecord as error:
            self._failed(where, str(error))
            return None
        self.seen.add(record["id"])
        return record

    def _failed(self, where, why):
        self.done["failed"] += 1
        self.file.write(json.dumps({"record": where, "why": why}) + "\n")
        if self.done["failed"] <= TOLD:
            print("[tritondeck] failed %s: %s" % (where, " ".join(why.split())), flush=True)


def fill(options, store, spaces):
    """Write every record of the source; what was done."""
    listed, started = sources(options.source), time.monotonic()
    if not listed:
        raise Refused("%s holds no image and no line" % options.source)
    if options.replace:
        store.clear()
    options.failures.parent.mkdir(parents=True, exist_ok=True)
    with options.failures.open("w", encoding="utf-8") as file:
        options.failures.chmod(0o600)
        filling = Filling(options, store, spaces, file)
        for first in range(0, len(listed), options.chunk):
            filling.chunk(listed[first : first + options.chunk])
            at = min(first + options.chunk, len(listed))
            rate = at / max(1e-3, time.monotonic() - started)
            words = "%d of %d records, %.0f/s" % (at, len(listed), rate)
            progress(0.98 * at / len(listed), words)
    progress(0.99, "indexes")
    done = {"records": len(listed), **filling.done, "indexes": store.index()}
    done |= {"seconds": round(time.monotonic() - started, 3), "total": store.count()}
    if done["failed"]:
        done["failures"] = str(options.failures)
    return done


def count(options, store, spaces):
    return {"count": store.count(options.filter), "bytes": store.size(), "spaces": spaces}


def delete(options, store, spaces):
    if not (options.id or options.filter or options.all):
        raise Refused("say which: ids, a filter, or all")
    if options.all:
        gone = store.count()
        store.clear()
        return {"deleted": gone, "total": 0}
    return {"deleted": store.delete(options.id, options.filter), "total": store.count()}


def rebuild(options, store, spaces):
    started = time.monotonic()
    names = store.index(again=True)
    return {
        "indexes": names,
        "seconds": round(time.monotonic() - started, 3),
        "bytes": store.size(),
        "total": store.count(),
    }


VERBS = {"fill": fill, "count": count, "delete": delete, "rebuild": rebuild}


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--model-folder", type=Path, required=True, help="of the match model")
    parser.add_argument("--filter", type=json.loads, default=None, help="JSON object")
    parser.add_argument("--id", action="append", default=[])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--source", type=Path, help="fill: a folder, or a file of JSON lines")
    parser.add_argument("--url", default="", help="fill: the server that makes the vectors")
    for name in ("image", "text", "sentence"):
        parser.add_argument("--%s-model" % name, default="")
    parser.add_argument("--batch", type=int, default=16, help="records of one request")
    parser.add_argument("--chunk", type=int, default=256, help="records of one transaction")
    parser.add_argument("--jobs", type=int, default=2, help="requests at a time")
    parser.add_argument("--replace", action="store_true", help="fill: empty the collection first")
    parser.add_argument("--failures", type=Path, help="fill: file for what failed")
    return parser.parse_args(argv)


def run(options):
    folder = options.model_folder
    sys.path.insert(0, str(folder))
    import store as stores

    try:
        settings = stores.load(folder)
        spaces = stores.spaces_of(folder, settings)
        clears = options.replace or options.all
        store = stores.open_store(settings, spaces).open(agreed=not clears)
        try:
            return VERBS[options.verb](options, store, spaces)
        finally:
            store.close()
    except (stores.StoreError, Unreachable, OSError) as error:
        raise Refused(str(error)) from error


def main(argv=None):
    options = arguments(argv)
    try:
        result = run(options)
    except Refused as error:
        print("[tritondeck] error: %s" % " ".join(str(error).split()), flush=True)
        return 1
    print("[tritondeck] result %s" % json.dumps(result), flush=True)
    return 3 if result.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main())
