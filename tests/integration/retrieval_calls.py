"""Uses a store as the models do, in the managed environment `retrieval`; what it said, as JSON.

``SETTINGS`` is `store.json` as text; ``--other-model`` opens it for another model's vectors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SOURCES = Path(__file__).parents[2] / "backends" / "models" / "retrieval"
COUNT = 40


def records(vectors: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"record {n}",
            "digest": f"d{n}",
            "document": {"n": n, "color": ("red", "blue")[n % 2], "odd": n % 2 == 1, "t": "it's"},
            "vectors": {"image": vectors[n], **({"text": -vectors[n]} if n < 10 else {})},
        }
        for n in range(COUNT)
    ]


def story(store: Any) -> dict[str, Any]:
    draw = np.random.default_rng(5)
    vectors = draw.standard_normal((COUNT, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = records(vectors)
    store.put(made)
    store.put(made[:3])  # the same again
    found = {
        "count": store.count(),
        "red": store.count({"color": "red"}),
        "either": store.count({"color": ["red", "green"]}),
        "range": store.count({"n": {"gte": 10, "lt": 20}}),
        "odd": store.count({"odd": True}),
        "none": store.count({"nothing": "x"}),
        "known": store.known(["record 1", "record 99"]),
        "nearest": ids(store.search("image", vectors[7], 1)),
        "filtered": ids(store.search("image", vectors[7], 3, {"color": "red"})),
        "texts": len(store.search("text", vectors[7], 50)),
        "exact": ids(store.search("image", vectors[7], 5)) == nearest(vectors, 7),
        "document": store.search("image", vectors[7], 1)[0][2],
        "score": round(float(store.search("image", vectors[7], 1)[0][1]), 3),
    }
    store.index(again=True)
    found["indexed"] = ids(store.search("image", vectors[7], 1))
    found["deleted"] = [
        store.delete(["record 1", "record 99"]), store.delete(wanted={"n": {"lt": 5}})
    ]  # fmt: skip
    found["left"] = store.count()
    return found


def nearest(vectors: Any, number: int) -> list[str]:
    return [f"record {n}" for n in np.argsort(-(vectors @ vectors[number]))[:5]]


def ids(rows: Any) -> list[str]:
    return [row[0] for row in rows]


def main() -> None:
    sys.path.insert(0, str(SOURCES))
    from store import StoreError, open_store

    model = "b" if "--other-model" in sys.argv else "a"
    spaces = {name: {"dimension": 8, "fingerprint": model} for name in ("image", "text")}
    try:
        store = open_store(json.loads(sys.argv[1]), spaces).open()
        print(json.dumps(story(store)))
        store.close()
    except StoreError as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    main()
