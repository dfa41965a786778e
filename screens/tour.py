"""The guided tour: on each real screen, what the step is for and what its words mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import console
from screens.flow import Flow, Stage

TEXTS: Mapping[Stage, str] = {
    Stage.CHECKPOINT: (
        "A checkpoint is read here without running anything in it. digits.nemo is a small model "
        "that hears spoken digits: put the cursor on it and press enter."
    ),
    Stage.ROUTE: (
        "A route is one way from this checkpoint to something that Triton serves. Take onnx with "
        "enter: NeMo writes a graph, ONNX Runtime computes it."
    ),
    Stage.OPTIONS: (
        "Every option starts at a value that fits; each is explained below the form. The script "
        "is all that will run. Go on with ctrl+n."
    ),
    Stage.CHECK: (
        "What could go wrong is looked at before any time is spent. Only a failure stops the "
        "build. Start it with enter."
    ),
    Stage.BUILD: (
        "The run belongs to this machine and not to this screen: leave with q, come back when you "
        "like. The first run makes two environments, later ones skip what has not changed."
    ),
    Stage.SERVE: (
        "Live, ready and a loaded model are three facts; the last proof is an answer. Go on with "
        "enter, stop the server with x."
    ),
    Stage.TRY: (
        "Send a sound: ctrl+f picks one from the folder wavs. y shows the same request as curl "
        "and Python. This is the end of the tour; x on Serve stops the server."
    ),
}
"""What each step is for, and the key that goes on."""

WITHOUT_EXAMPLE: Mapping[Stage, str] = {
    Stage.CHECKPOINT: (
        "A checkpoint is read here without running anything in it. The tour's small model that "
        "hears spoken digits comes with tritondeck's source, in examples/digits: press o and give "
        "that folder. Or take a .nemo or .onnx file of your own with enter."
    ),
    Stage.TRY: (
        "Send a sound: ctrl+f picks a file. y shows the same request as curl and Python. This is "
        "the end of the tour; x on Serve stops the server."
    ),
}
"""The same for an installation that does not carry the example, where that makes a difference."""

WORDS: Mapping[Stage, tuple[str, ...]] = {
    Stage.CHECKPOINT: ("checkpoint", "pickle"),
    Stage.ROUTE: ("backend", "ONNX"),
    Stage.OPTIONS: ("batch", "dynamic batching"),
    Stage.CHECK: ("verdict", "environment"),
    Stage.BUILD: ("run", "step"),
    Stage.SERVE: ("live", "readiness"),
    Stage.TRY: ("verification", "latency"),
}
"""Terms of the glossary that a person meets at each step for the first time."""


def example() -> Path | None:
    """The folder of the tour's model, which a source checkout has and a wheel does not."""
    folder = Path(console.__path__[0]).parent / "examples" / "digits"
    return folder if folder.is_dir() else None


def text(stage: Stage) -> str:
    """What the tour says at `stage`; empty where it has nothing to say."""
    without = {} if example() else WITHOUT_EXAMPLE
    return without.get(stage) or TEXTS.get(stage, "")


def begin() -> Flow:
    """The flow that the tour starts with, in the folder of its model where there is one."""
    return Flow(folder=str(example() or ""), tour=True)
