"""One search by several processes: each takes every n-th piece of the log.

Only for the scan's own process: it has one thread, so it may fork. A helper ends with it: what it
writes is no longer read, and it looks for its parent while it matches.
"""

from __future__ import annotations

import json
import os
import selectors
from collections.abc import Callable, Iterator
from typing import Any

Answer = dict[str, Any]
Work = Callable[[int], Iterator[Answer]]
"""The answers of helper number n: the hits since the last one, all its hits, all its bytes."""


def helpers(pieces: int) -> int:
    """How many are worth their start (some ms each): one for eight pieces, never all CPUs of a big
    machine, whose log is not worth that."""
    return max(1, min(len(os.sched_getaffinity(0)), 4, pieces // 8))


def shared(count: int, work: Work, begin: Callable[[], None]) -> Iterator[Answer]:
    """What `count` helpers find together; `begin` is called in each first.

    Raises `RuntimeError` when one of them ends before its work does.
    """
    waiting = selectors.DefaultSelector()
    for number in range(count):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            _help(writer, number, work, begin)
        os.close(writer)
        waiting.register(reader, selectors.EVENT_READ, number)
    parts, rest = [{"total": 0, "done": 0}] * count, [b""] * count
    while waiting.get_map():
        for key, _ in waiting.select():
            data = os.read(key.fd, 1 << 20)
            if not data:
                waiting.unregister(key.fd)
                os.close(key.fd)
                continue
            *lines, rest[key.data] = (rest[key.data] + data).split(b"\n")
            hits: list[int] = []
            for line in lines:
                parts[key.data] = json.loads(line)
                hits += parts[key.data]["hits"]
            if lines:
                sums = {name: sum(part[name] for part in parts) for name in ("total", "done")}
                yield {"hits": hits, **sums}
    if not all(part.get("end") for part in parts):
        raise RuntimeError("a part of the search ended early")


def _help(writer: int, number: int, work: Work, begin: Callable[[], None]) -> None:
    """The life of one helper: it never comes back into the code that forked it."""
    status = 1
    try:
        begin()
        with os.fdopen(writer, "w") as out:
            for answer in work(number):
                out.write(json.dumps(answer, separators=(",", ":")) + "\n")
                out.flush()
        status = 0
    finally:
        os._exit(status)
