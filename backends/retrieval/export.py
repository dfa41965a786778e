"""The steps that export the towers, and prove that what is served equals PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

from backends.retrieval.work import EXPORTER, PAIR, SENTENCE, Work
from backends.sources import WORKERS, version_folder, worker
from console.checkpoints.model import Checkpoint
from console.planning.plan import (
    Command,
    CommandStep,
    ExitCode,
    FileExists,
    FileSpec,
    InputFile,
    JsonFile,
    join,
)
from console.planning.variables import literal

SCRIPT = "towers_to_onnx"
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def worker_files() -> tuple[FileSpec, ...]:
    """The script of the export steps."""
    return (worker(SCRIPT),)


def export_steps(work: Work) -> Iterator[CommandStep]:
    """One step for the pair, one for a sentence encoder."""
    places = {"vision": "vision", "text": "text", "pixels": "pixels", "tokens": "tokens"}
    mask = ("--masked",) if work.towers.masked else ()
    yield _step(
        work,
        "pair",
        work.pair,
        places,
        ("--dimension", str(work.towers.dimension), "--length", str(work.towers.tokens), *mask),
    )
    if work.sentence is not None and work.encoder is not None:
        yield _step(
            work,
            "sentence",
            work.encoder,
            {"text": "sentence", "tokens": "sentence_tokens"},
            ("--dimension", str(work.sentence.dimension), "--length", str(work.sentence.tokens)),
        )


def _step(
    work: Work, kind: str, checkpoint: Checkpoint, places: dict[str, str], more: tuple[str, ...]
) -> CommandStep:
    """`places`: what the script makes, to the model that it is for."""
    script, model = join(WORKERS, f"{SCRIPT}.py"), literal(str(checkpoint.path))
    folders = {name: version_folder(work.model(part)) for name, part in places.items()}
    # The script compares with what is served: it takes the sources from where they are served.
    sources = join(WORKERS, "retrieval")
    report = join(version_folder(work.name), PAIR if kind == "pair" else SENTENCE)
    argv = ["${env_nemo}/bin/python", "-B", script, "--kind", kind, "--model", model]
    argv += ["--sources", sources, "--report", report, "--opset", str(work.options.opset), *more]
    for name, folder in folders.items():
        argv += [f"--{name}-into", folder]
    expect: dict[str, object] = {
        "max_abs_diff": {"max": work.options.tolerance},
        "tokens_equal": True,
    }
    made = [join(folders[name], "model.onnx") for name in ("vision", "text") if name in folders]
    made += [join(folders["tokens"], "tokenizer.json"), join(folders["tokens"], "tokens.json")]
    if kind == "pair":
        expect["pixels_max_abs_diff"] = {"max": 1e-4}
        made.append(join(folders["pixels"], "pixels.json"))
    used = (model, script, *(join(sources, f"{name}.py") for name in ("pixels", "tokens")))
    return CommandStep(
        id=f"export-{kind}",
        title="export the towers" if kind == "pair" else "export the sentence encoder",
        why="PyTorch writes the graphs; served pixels, tokens and vectors must equal PyTorch's",
        inputs=tuple(InputFile(path=path) for path in used),
        outputs=(*made, report),
        success=(
            ExitCode(),
            *(FileExists(path=path) for path in (*made, report)),
            JsonFile(path=report, expect=expect),
        ),
        command=Command(argv=tuple(argv), runtime=f"environment:{EXPORTER}", env=OFFLINE),
    )
