"""`Parallelism`: how a language model is spread over the GPUs, and what fits them."""

from __future__ import annotations

from console.facts import Level
from console.planning.parallelism import ParallelismView, RankView
from console.text import human_bytes
from screens.phrase import Phrase, Role, join, lines, say
from screens.states import bar
from screens.widgets.words import Words

_ROOM = 40
"""Rows of terminal from which every rank has a line of its own."""
_RANKS = 8


class Parallelism(Words):
    """Hidden for routes without parallel sizes; two lines on a short terminal."""

    DEFAULT_CSS = """
    Parallelism { height: auto; max-height: 18; padding: 0 1; display: none; }
    Parallelism.-shown { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(id="parallelism")
        self._view: ParallelismView | None = None

    def spread(self, view: ParallelismView | None) -> None:
        """Show a view; None hides the place."""
        self._view = view
        self.set_class(view is not None, "-shown")
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if self._view is not None:
            self.show(drawn(self._view, short=self.app.size.height < _ROOM))


def drawn(view: ParallelismView, *, short: bool) -> Phrase:
    """The view as lines; `short` leaves the two that decide."""
    head = join(say("Parallelism", "strong"), _layout(view), _verdict(view))
    wrong = [say(f"✕ {v.summary}: {v.fix}", "bad") for v in view.verdicts if v.level is Level.FAIL]
    if short:
        return lines(head, *(wrong[:1] or [_fits(view) if view.batches else _memory(view)]))
    fixed = [say(f"the checkpoint fixes {view.fixed}", "warn")] if view.fixed else []
    if wrong:
        return lines(head, *wrong, *fixed, *_choices(view))
    shown = [_rank(rank, view) for rank in view.ranks[:_RANKS]]
    if len(view.ranks) > _RANKS:
        shown.append(say(f"and {len(view.ranks) - _RANKS} ranks more", "dim"))
    fits = [_fits(view)] if view.batches else []
    split, formula = say(f"✓ {view.split}"), say(view.formula, "dim")
    return lines(head, split, *fixed, _memory(view), *fits, *shown, *_choices(view), formula)


def _layout(view: ParallelismView) -> Phrase:
    machines = f" on {view.nodes} machines" if view.nodes > 1 else ""
    used = f"{view.tensor * view.pipeline} of {view.gpus} GPUs" if view.gpus else "no GPU here"
    return join(
        say(f"tensor {view.tensor} × pipeline {view.pipeline}{machines}"),
        say(used, "dim" if view.gpus else "warn"),
        between=" · ",
    )


def _verdict(view: ParallelismView) -> Phrase:
    """One word for whether it works here."""
    if any(v.level is Level.FAIL for v in view.verdicts):
        return say("✕ impossible", "bad")
    if not view.budget:
        return say("? not known here", "warn")
    return say("✓ fits", "ok") if view.fits else say("✕ does not fit", "bad")


def _memory(view: ParallelismView) -> Phrase:
    """What each GPU takes before the first token, and then for each."""
    parts = [(view.weights, "weights"), (view.activations, "activations"), (view.context, "CUDA")]
    said = " + ".join(f"{human_bytes(size)} {name}" for size, name in parts if size)
    cache = f"{view.cache_a_token / 1024:.0f} KiB cache a token"
    return join(say(f"{said} a GPU"), say(cache, "dim"), between=" · ")


def _fits(view: ParallelismView) -> Phrase:
    """The longest sequences that fit, by how many there are at once."""
    fits = " · ".join(f"{one.batch} × {one.length:,}" for one in view.batches)
    return join(say("batch × length", "dim"), say(fits, "accent"))


def _rank(rank: RankView, view: ParallelismView) -> Phrase:
    """Where a rank lands, with a bar of its memory: weights and the rest before the first token."""
    place = say(f"rank {rank.rank}".ljust(8), "dim")
    stage = say(f"stage {rank.pipeline}" if view.pipeline > 1 else "", "dim")
    if rank.index is None:
        where = "no such GPU here" if rank.node == 0 else f"machine {rank.node}, GPU {rank.gpu}"
        return join(place, say(where, "warn" if rank.node == 0 else ""), stage)
    fixed = view.weights + view.activations + view.context
    used = fixed / rank.total if rank.total else 0.0
    role: Role = "ok" if fixed <= view.budget else "bad"
    words = f"{human_bytes(fixed)} of {human_bytes(rank.total)}"
    return join(
        place,
        say(f"GPU {rank.index} {rank.name}"),
        stage,
        say(bar(used, 10), role),
        say(words, "dim"),
    )


def _choices(view: ParallelismView) -> tuple[Phrase, ...]:
    """Other sizes that are possible here, with the tokens that each would hold."""
    others = [
        say(f"{one.tensor}×{one.pipeline}: {one.tokens:,}" if one.tokens else
            f"{one.tensor}×{one.pipeline}: does not fit", "" if one.tokens else "dim")
        for one in view.choices
        if (one.tensor, one.pipeline) != (view.tensor, view.pipeline)
    ]  # fmt: skip
    if not others:
        return ()
    return (join(say("tokens with", "dim"), join(*others[:4], between=" · ")),)
