"""What happened to servers between two moments: the marks that curves show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from console.triton.reading import ServerReading


def happenings(
    before: Sequence[ServerReading], now: Sequence[ServerReading]
) -> Iterator[tuple[str, str, str]]:
    """Kind (``server`` or ``model``), words and target of each change of state."""
    known = {server.name: server for server in before}
    for server in now:
        old = known.get(server.name)
        if not server.asked or (old is not None and old.time == server.time):
            continue
        if old is None or not old.asked:
            continue
        if old.live != server.live:
            yield "server", "answers again" if server.live else "does not answer", server.name
        elif server.gap and not old.gap and server.live:
            yield "server", "was started anew", server.name
        if old.live and server.live:
            yield from _models(old, server)


def _models(old: ServerReading, server: ServerReading) -> Iterator[tuple[str, str, str]]:
    states = {(m.name, m.version): m.state for m in old.models}
    for model in server.models:
        before = states.pop((model.name, model.version), "")
        if before != model.state:
            yield "model", f"{model.name} {model.state.lower() or 'not loaded'}", server.name
    for (name, _), state in states.items():
        if state:
            yield "model", f"{name} gone", server.name
