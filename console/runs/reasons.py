"""Why a step failed, in words, from what a server or a worker wrote into its log."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from console.facts import DeckError

_CAP = 1 << 22
_GRAPH = "onnx-"
"""Entries whose words hold wherever ONNX Runtime opens a graph, not only in a server."""
_BUILDER = "trtexec-"
"""Entries about trtexec's own log."""
_ENGINE = "trtllm-"
"""Entries about TensorRT-LLM's programs, whose words are nobody else's."""


def size(log: Path) -> int:
    """Bytes that `log` has now: what a step before this one wrote is no reason of this one."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def of_server(error: DeckError, log: Path, since: int, only: str = "") -> DeckError:
    """`error` with the cause that the server's log tells after byte `since` (of kind `only`).

    The error itself comes back where the log tells none, or the one that it says already.
    """
    from console.triton.logs import explain

    try:
        with log.open("rb") as stream:
            stream.seek(since)
            text = stream.read(_CAP).decode(errors="replace")
    except OSError:
        return error
    told = explain(text.splitlines())
    known = next((one for one in told if only in ("", one.id)), None)
    if known is None or known.what in error.why:
        return error
    return DeckError(
        error.title, why=f"{known.what}: {known.why}", fix=known.fix, raw=error.raw or known.raw
    )


def of_graph(lines: Iterable[str]) -> DeckError | None:
    """What ONNX Runtime's words about a graph mean, where that is known."""
    from console.triton.logs import explain

    lines = tuple(lines)
    for known in explain(lines):
        if known.id.startswith(_GRAPH):
            return DeckError(known.what, why=known.why, fix=known.fix, raw="\n".join(lines))
    return None


def of_builder(log: Path) -> DeckError | None:
    """Why trtexec or a program of TensorRT-LLM failed: they go on for some lines after the one that
    tells."""
    from console.triton.logs import explain

    try:
        with log.open("rb") as stream:
            stream.seek(max(0, size(log) - _CAP))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    trtexec = any(line.startswith("&&&& RUNNING TensorRT.trtexec") for line in lines)
    kinds = (_ENGINE, _BUILDER) if trtexec else (_ENGINE,)
    for known in explain(lines):
        if known.id.startswith(kinds):
            return DeckError(known.what, why=known.why, fix=known.fix, raw=known.raw)
    return None


def of_dead_model(error: DeckError) -> DeckError | None:
    """That the process of a model has died, if that is what `error` says."""
    from console.triton.logs import explain_line

    known = explain_line(str(error))
    if known is None or known.id != "stub-died":
        return None
    return DeckError(known.what, why=known.why, fix=known.fix, raw=error.raw or known.raw)
