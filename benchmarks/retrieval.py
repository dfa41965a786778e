#!/usr/bin/env python3
"""What the retrieval route costs: images through a served ensemble, and search in the store.

    python benchmarks/retrieval.py images http://127.0.0.1:PORT --name shapes
    ENVIRONMENT/bin/python benchmarks/retrieval.py search --environment ENVIRONMENT
    ENVIRONMENT/bin/python benchmarks/retrieval.py search --environment ENVIRONMENT --sizes 250000 1000000

``images`` needs a deployment of `examples/shapes` that is being served, Pillow and NumPy. It sends
10,000 images one at a time, eight in a request, and one at a time from eight clients (dynamic batching),
and reads from Triton's statistics what each model took. ``search`` runs in the managed environment
`retrieval` with a private PostgreSQL in a temporary folder: for each size it fills a collection with
clustered vectors, builds the HNSW index and compares the answers with an exact search.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "backends" / "models" / "retrieval"
TOP = 10


# ---------------------------------------------------------------------------- images


def pictures(count: int, width: int, height: int) -> list[bytes]:
    """`count` files: the example's 64 × 64 as PNG, or enlarged as JPEG of quality 90.

    500 different ones, in random order: what is measured does not depend on their content.
    """
    sys.path.insert(0, str(ROOT / "examples" / "shapes"))
    import make_shapes as shapes

    files = []
    for number in range(min(count, 500)):
        image = shapes.picture(shapes.HELD_OUT_SEED + number, shapes.CLASSES[number % 12])
        file = io.BytesIO()
        if (width, height) == image.size:
            image.save(file, "PNG")
        else:
            image.resize((width, height)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return random.Random(1).choices(files, k=count)


def statistics(url: str, model: str) -> dict[str, int]:
    """Nanoseconds and counts that the server has of `model`."""
    with urllib.request.urlopen(f"{url}/v2/models/{model}/stats", timeout=30) as answer:
        (found,) = json.load(answer)["model_stats"]
    inside = found["inference_stats"]
    return {
        "images": found["inference_count"],
        "runs": found["execution_count"],
        "queue": inside["queue"]["ns"],
        "compute": sum(inside[part]["ns"] for part in PARTS),
    }


PARTS = ("compute_input", "compute_infer", "compute_output")


def sent(url: str, model: str, files: list[bytes], batch: int, clients: int) -> dict[str, float]:
    """Send all `files`; images a second and milliseconds of a request."""
    sys.path.insert(0, str(ROOT / "backends" / "workers"))
    from retrieval_store import Embedder

    parts = [files[first : first + batch] for first in range(0, len(files), batch)]
    left, times = iter(parts), []
    lock = threading.Lock()

    def client() -> None:
        embedder = Embedder(url)
        while True:
            with lock:
                part = next(left, None)
            if part is None:
                return
            started = time.perf_counter()
            embedder.vectors(model, "IMAGE", part)
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if len(times) != len(parts):
        raise SystemExit("a client failed")
    return {"images_s": len(files) / took, "seconds": took, **percentiles(times)}


def percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{p}_ms": float(np.percentile(times, p)) * 1000 for p in (50, 95, 99)}


def stages(files: list[bytes], settings: dict[str, Any]) -> dict[str, float]:
    """Milliseconds an image that decoding, resizing and normalising take in one thread."""
    sys.path.insert(0, str(SOURCES))
    import pixels

    def each(work: Callable[[Any], Any], items: list[Any]) -> tuple[float, list[Any]]:
        started = time.perf_counter()
        made = [work(item) for item in items]
        return (time.perf_counter() - started) / len(items) * 1000, made

    some = files[:300]
    decode, images = each(pixels.decode, some)
    resize, smaller = each(lambda image: pixels.resized(image, settings), images)
    normalise, _ = each(lambda image: pixels.pixels(image, {**settings, "resize": None}), smaller)
    return {"decode": decode, "resize": resize, "normalise": normalise}


def run_images(options: argparse.Namespace) -> None:
    width, height = options.size
    files = pictures(options.count, width, height)
    model, url = f"{options.name}_image_embed", options.url.rstrip("/")
    sent(url, model, files[:64], 8, 1)  # the first requests are slower
    print(f"{options.count} images of {width} × {height}, {np.mean([*map(len, files)]):.0f} bytes")
    for title, batch, clients in (("batch 1", 1, 1), ("batch 8", 8, 1), ("8 clients", 1, 8)):
        names = [f"{options.name}_{part}" for part in ("pixels", "vision")]
        before = {name: statistics(url, name) for name in names}
        found = sent(url, model, files, batch, clients)
        print(f"{title:10} " + " ".join(f"{key} {value:.2f}" for key, value in found.items()))
        for name in names:
            now, then = statistics(url, name), before[name]
            images, runs = now["images"] - then["images"], now["runs"] - then["runs"]
            # A run's time is counted once for each request in it: by runs it is what was spent.
            print(
                f"    {name:16} {(now['compute'] - then['compute']) / images / 1e6:.2f} ms a request "
                f"and image, queue {(now['queue'] - then['queue']) / images / 1e6:.2f} ms, "
                f"{images / runs:.1f} images a run"
            )
    if options.settings:
        found = stages(files, json.loads(options.settings.read_text()))
        print("one thread: " + ", ".join(f"{key} {value:.2f} ms" for key, value in found.items()))


# ---------------------------------------------------------------------------- search


def clustered(count: int, dimension: int, seed: int, spread: float = 0.35) -> Iterator[np.ndarray]:
    """Vectors of length 1 around 1000 centres, float32 [≤ 10,000, dimension] at a time.

    `spread` is the length of the noise beside a centre of length 1: as embeddings of things of one
    kind lie, and harder for an index than uniform noise is for a person.
    """
    centres = np.random.default_rng(17).standard_normal((1000, dimension)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    draw = np.random.default_rng(seed)
    for first in range(0, count, 10_000):
        number = min(10_000, count - first)
        noise = draw.standard_normal((number, dimension)).astype(np.float32)
        made = centres[draw.integers(0, 1000, number)] + noise * (spread / np.sqrt(dimension))
        yield made / np.linalg.norm(made, axis=1, keepdims=True)


def exact(vectors: Iterator[np.ndarray], queries: np.ndarray) -> np.ndarray:
    """Numbers of the `TOP` nearest of `vectors`, int [queries, TOP]."""
    scores = np.full((len(queries), TOP), -2, np.float32)
    best = np.zeros((len(queries), TOP), np.int64)
    first = 0
    for part in vectors:
        found = np.concatenate([scores, queries @ part.T], axis=1)
        numbers = np.concatenate(
            [best, np.tile(np.arange(first, first + len(part)), (len(queries), 1))], axis=1
        )
        order = np.argpartition(-found, TOP, axis=1)[:, :TOP]
        scores = np.take_along_axis(found, order, 1)
        best = np.take_along_axis(numbers, order, 1)
        first += len(part)
    return best


def memory(folder: Path) -> int:
    """Bytes that the processes of the server in `folder` have to themselves, now."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/smaps_rollup"):
        try:
            if str(folder) not in Path(status.parent, "cwd").readlink().as_posix():
                continue
            lines = status.read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


class Peak(threading.Thread):
    """The most that `memory` says while something runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.peak, self.over = folder, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(1.0):
            self.peak = max(self.peak, memory(self.folder))


def run_search(options: argparse.Namespace) -> None:
    sys.path.insert(0, str(SOURCES))
    from store import open_store

    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for size in options.sizes:
            settings = {
                "kind": "postgresql",
                "url": "",
                "folder": place,
                "packages": str(options.environment),
                "collection": f"r{size}",
                "hnsw_m": options.m,
                "hnsw_ef_construction": options.ef_construction,
                "ef_search": options.ef_search[0],
                "build_memory": options.build_memory,
            }
            spaces = {"image": {"dimension": options.dimension, "fingerprint": "benchmark"}}
            measure(open_store, settings, spaces, size, options)


def measure(open_store: Any, settings: Any, spaces: Any, size: int, options: Any) -> None:
    """One size: fill, index, and each search width."""
    store = open_store(settings, spaces).open()
    started, number = time.perf_counter(), 0
    for part in clustered(size, options.dimension, 1):
        store.put(
            [
                {
                    "id": str(number + row),
                    "digest": "x",
                    "document": {"number": number + row, "kind": (number + row) % 10},
                    "vectors": {"image": vector},
                }
                for row, vector in enumerate(part)
            ]
        )
        number += len(part)
    filled, started = time.perf_counter() - started, time.perf_counter()
    bare, watch = store.size(), Peak(Path(settings["folder"]))
    store.index(again=True)
    watch.over.set()
    print(
        f"{size} × {options.dimension}: filled in {filled:.1f} s, index in "
        f"{time.perf_counter() - started:.1f} s (m {options.m}, ef_construction "
        f"{options.ef_construction}), rows {bare / 1e6:.0f} MB, with index "
        f"{store.size() / 1e6:.0f} MB, memory at most {watch.peak / 1e6:.0f} MB",
        flush=True,
    )
    queries = next(clustered(options.queries, options.dimension, 2))
    right = exact(clustered(size, options.dimension, 1), queries)
    store.close()
    for width in options.ef_search:
        store = open_store({**settings, "ef_search": width}, spaces).open()
        for query in queries[:20]:
            store.search("image", query, TOP)  # pages of the index come into memory
        print(f"    ef_search {width}: {searched(store, queries, right)}", flush=True)
        if width == options.ef_search[-1]:
            wanted = {"kind": 3}
            some = searched(store, queries[:50], None, wanted)
            print(f"    with a filter that a tenth fits: {some}", flush=True)
        store.close()


def processor(store: Any) -> float:
    """Seconds that the server's process for our connection has run."""
    stat = Path(f"/proc/{store.connection.info.backend_pid}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def searched(store: Any, queries: np.ndarray, right: np.ndarray | None, wanted: Any = None) -> str:
    times, hits = [], 0
    spent = time.process_time() + processor(store)
    for number, query in enumerate(queries):
        started = time.perf_counter()
        rows = store.search("image", query, TOP, wanted)
        times.append(time.perf_counter() - started)
        if right is not None:
            hits += len({int(name) for name, _, _ in rows} & set(right[number].tolist()))
        elif len(rows) != TOP:
            raise SystemExit(f"{len(rows)} records with a filter")
    # On a busy machine most of a time is waiting for a processor: this is what a search needs of one.
    spent = (time.process_time() + processor(store) - spent) / len(queries) * 1000
    words = " ".join(f"{key} {value:.2f}" for key, value in percentiles(times).items())
    words = f"{words} processor_ms {spent:.2f}"
    return words if right is None else f"{words} recall@{TOP} {hits / right.size:.4f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("images", help="a served ensemble")
    verb.add_argument("url")
    verb.add_argument("--name", default="shapes")
    verb.add_argument("--count", type=int, default=10_000)
    verb.add_argument("--size", type=int, nargs=2, default=(64, 64))
    verb.add_argument("--settings", type=Path, help="pixels.json of the served model")
    verb.set_defaults(run=run_images)
    verb = verbs.add_parser("search", help="a private PostgreSQL")
    verb.add_argument("--environment", type=Path, required=True, help="the managed environment")
    verb.add_argument("--folder", type=Path, help="where the temporary folder is made")
    verb.add_argument("--sizes", type=int, nargs="+", default=[100_000])
    verb.add_argument("--dimension", type=int, default=512)
    verb.add_argument("--queries", type=int, default=500)
    verb.add_argument("--m", type=int, default=16)
    verb.add_argument("--ef-construction", type=int, default=64)
    verb.add_argument("--ef-search", type=int, nargs="+", default=[40, 100, 200])
    verb.add_argument("--build-memory", default="2GB")
    verb.set_defaults(run=run_search)
    options = parser.parse_args()
    options.run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
