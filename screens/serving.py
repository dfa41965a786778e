"""How a server's standing reads: one title, and a few lines of facts with their labels in a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap
from urllib.parse import urlsplit

from console.desk.desk import ServerView
from console.services.lifecycle import Lifecycle, Phase
from console.services.model import ServiceView
from console.text import human_seconds
from screens import states
from screens.phrase import Phrase, join, lines, say

_BAD = (Phase.CRASHED, Phase.LOST, Phase.DEGRADED)
_LABEL = 18


def addresses(view: ServiceView) -> list[tuple[str, str]]:
    """What it is called, and where it answers."""
    end = view.endpoint
    found = [("http", end.url), ("grpc", end.grpc_url), ("metrics", end.metrics_url)]
    return [(name, url) for name, url in found if url]


def title(view: ServerView, busy: str) -> Phrase:
    service = view.service
    version = view.health.version if view.health else ""
    kind = view.container.engine if view.container else service.launcher
    up = service.uptime or 0
    return join(
        say(service.deployment, "strong"),
        say(f"{kind} {'Triton' if service.endpoint.kind == 'triton' else ''} {version}".rstrip()),
        states.phase(view.life.phase),
        say(f"up {human_seconds(int(up) // 60 * 60)}" if up >= 60 else "", "dim"),
        say(busy, "accent"),
    )


def facts(view: ServerView) -> Phrase:
    """What it does and why, where it answers, what it runs in, which versions there are."""
    return lines(*_standing(view), *_places(view), *_kept(view))


def _standing(view: ServerView) -> Iterator[Phrase]:
    life, health = view.life, view.health
    words = say(_words(life), "bad" if life.phase in _BAD else "dim")
    if health is None:
        yield words
    else:
        yield join(states.fact("live", health.live), states.fact("ready", health.ready), words)
    if life.last_line:
        yield _fact("last log line", say(life.last_line))
    if life.cause is not None:
        yield _fact("cause", say(life.cause.title, "bad"))
        if life.cause.fix:
            yield _fact("what to do", say(life.cause.fix, "accent"))
    if view.watched:
        may = "its models can be loaded and unloaded" if view.control else "it is only watched"
        yield _fact("attached", say(f"{may}; m shows its figures", "dim"))
    if life.restarts:
        many = "once" if life.restarts == 1 else f"{life.restarts} times"
        yield _fact("restarted", say(f"{many} within the hour", "warn"))


def _words(life: Lifecycle) -> str:
    """To the minute, where Triton's own sentence would change every second."""
    if life.phase is not Phase.SERVING or life.answered is None:
        return life.words
    minutes = int(life.answered) // 60
    ago = human_seconds(minutes * 60) if minutes else "less than a minute"
    return f"a real request was answered {ago} ago"


def _places(view: ServerView) -> Iterator[Phrase]:
    where = [_place(name, url) for name, url in addresses(view.service)]
    if where:
        yield _fact("answers at", join(*where))
    if view.tunnel:
        yield _fact("from your laptop", say(view.tunnel, "accent"))


def _place(name: str, url: str) -> Phrase:
    parts = urlsplit(url if "//" in url else f"//{url}")
    shown = f"{parts.scheme}://{parts.netloc}" if name == "http" else f":{parts.port or ''}"
    return say(name, "dim") + say(f" {shown}")


def _kept(view: ServerView) -> Iterator[Phrase]:
    if (box := view.container) is not None:
        image = box.image.removeprefix("nvcr.io/nvidia/")
        yield _fact("container", join(say(box.name), say(image, "dim")))
        if box.unreachable:
            yield _fact("", say(f"{box.engine} does not answer: {box.unreachable}", "warn"))
        if box.oom_kills:
            yield _fact(
                "", say(f"{box.oom_kills} of its processes ended for want of memory", "bad")
            )
    if view.versions is not None and view.versions.versions:
        numbers = (
            say(f"● {one.number} live", "ok") if one.live else say(str(one.number))
            for one in view.versions.versions
        )
        back = view.versions.previous
        yield _fact(
            "versions", join(*numbers, say(f"b goes back to {back}" if back else "", "dim"))
        )


def reason(view: ServerView, model: str, width: int, room: int) -> Iterator[Phrase]:
    """Why the model under the cursor is not ready, as far as its row has no `room` for it."""
    known = view.health.models if view.health and view.service.living else ()
    why = " ".join(next((m.reason for m in known if m.name == model and not m.ready), "").split())
    if len(why) <= room:
        return
    pieces = wrap(why, max(20, width - _LABEL), max_lines=3, placeholder=" …")
    for number, piece in enumerate(pieces):
        yield _fact("" if number else "reason", say(piece, "bad"))


def _fact(label: str, value: Phrase) -> Phrase:
    return say(label, "dim").fit(_LABEL) + value


def told(view: ServerView | None) -> object:
    """The view without what changes every second and is not shown by the second."""
    if view is None:
        return None
    life, service = view.life, view.service
    minute = None if life.answered is None else int(life.answered) // 60
    up = None if service.uptime is None else int(service.uptime) // 60
    return (
        (service.id, service.state, service.reason, service.endpoint, service.log, up),
        (life.phase, _words(life), life.models, life.last_line, life.restarts, minute),
        (str(life.cause), view.health, view.versions, view.container, view.tunnel, view.control),
    )


def cells(view: ServerView) -> Iterable[tuple[str, tuple[Phrase, ...]]]:
    """One row a model that the server knows."""
    for model in view.health.models if view.health else view.life.models:
        reason = model.reason.partition("\n")[0]
        yield (
            model.name,
            (
                say(model.name, "strong"),
                states.model(model),
                say(model.version or "–", "dim"),
                say(reason, "dim"),
            ),
        )
