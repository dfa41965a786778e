"""Verdicts on the place where upstream's code runs: generation, image, flags, folder, open ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from backends.upstream import container, flags, generations, parsers, place
from backends.upstream.place import Call
from console.checkpoints.model import Format
from console.facts import Level, ToolFacts, Verdict
from console.text import clean

MARK = ".tritondeck-engine"
"""What `workers/check_flags.py` leaves in a folder that it found empty."""


def found(call: Call, tools: ToolFacts) -> Iterator[Verdict]:
    """The generation that is chosen against the one that is known to be there."""
    options, chosen = call.options, generations.generation(call.generation).title
    if call.inside:
        source, there = "the image's tag", generations.of_image(options.image)
    else:
        facts = tools.environments.get(place.ENVIRONMENT)
        installed = generations.of_packages(facts.packages) if facts else ""
        source, there = "installed packages", (installed,) if installed else ()
    named = options.image or not call.inside
    if named and not there and options.generation == "auto":
        yield Verdict(
            "generation",
            Level.UNKNOWN,
            f"nothing tells what is installed there: planned is {chosen}",
            clean(options.image) if call.inside else "",
            source,
            "set generation to what the place has",
            "options.generation",
        )
    if there and call.generation not in there:
        yield Verdict(
            "generation",
            Level.FAIL,
            f"the place has {generations.generation(there[0]).title}, and the plan is for another",
            chosen,
            source,
            f"set generation = {there[0]}, or auto",
            "options.generation",
        )


def mode(call: Call) -> Iterator[Verdict]:
    """Loading takes what was built before, building a checkpoint."""
    built = call.checkpoint.format is Format.TRTLLM_ENGINE
    if built != (call.options.mode == "load"):
        yield Verdict(
            "engine-mode",
            Level.FAIL,
            "a built engine is loaded, not built again"
            if built
            else "only a built engine can be loaded",
            fix=f"set mode = {'load' if built else 'serve'}",
            option="options.mode",
        )


def runnable(call: Call) -> Iterator[Verdict]:
    """Whether there is an image or environment with what upstream needs."""
    entry = generations.generation(call.generation)
    image = place.image_of(call.options, call.generation)
    if call.inside and not image:
        yield Verdict(
            "generation",
            Level.FAIL,
            f"no image of {entry.title} is known",
            source=f"backends/catalog/generations.toml of {generations.catalog().date}",
            fix="name one in options.image",
            option="options.image",
        )
    wish = call.deployment.environments.get(place.ENVIRONMENT)
    if not call.inside and not (wish and wish.use):
        yield Verdict(
            "generation",
            Level.FAIL,
            "the environment with NeMo and TensorRT-LLM is not named",
            source="TensorRT-LLM's packages are not made here",
            fix=f"[environments.{place.ENVIRONMENT}] use = the folder of one, or take a container",
            option=f"environments.{place.ENVIRONMENT}.use",
        )
    lacking = [note for note in entry.notes if "no TensorRT-LLM" in note]
    if call.inside and lacking and not call.options.image:
        yield Verdict(
            "generation",
            Level.WARN,
            clean(lacking[0]),
            image,
            entry.ref,
            "name an image with the extra installed in options.image",
            "options.image",
        )
    if not call.inside and call.options.mode != "export":
        yield _open_ports(call)


def _open_ports(call: Call) -> Verdict:
    """PyTriton's gRPC and metrics ports listen on every address: no argument reaches them."""
    fixed = f"gRPC {container.GRPC} and metrics {container.METRICS}"
    said = "PyTriton listens on every address for gRPC, and no flag of upstream changes that"
    if call.deployment.server.exposed:
        return Verdict("upstream-ports", Level.WARN, said, fixed, "DeployPyTriton's arguments")
    return Verdict(
        "upstream-ports",
        Level.FAIL,
        said,
        fixed,
        "DeployPyTriton's arguments",
        "take place = container, which publishes on loopback only",
        "options.place",
    )


def accepted(call: Call, tools: ToolFacts) -> Iterator[Verdict]:
    """The planned words against the catalog, and against the installed script where it was read."""
    predicted = parsers.known(call.script, call.generation)
    argv = call.argv()
    text = tools.sources.get(call.installed)
    if text is not None:
        yield from flags.compare(
            argv,
            parsers.read(text, call.installed),
            script=call.script,
            source=clean(call.installed),
            generation=call.generation,
            predicted=predicted,
        )
    elif predicted is not None:
        yield from flags.compare_known(argv, call.script, call.generation)
    else:
        has = [n for n in generations.catalog().generations if parsers.known(call.script, n)]
        yield Verdict(
            flags.CHECK,
            Level.FAIL,
            f"{generations.generation(call.generation).title} has no {call.script}",
            figure=f"the last with it is {has[-1]}" if has else "",
            source="backends/catalog/scripts.json",
            fix="set form = auto or api",
            option="options.form",
        )


def arguments(call: Call, source: str) -> Iterator[Verdict]:
    """The planned arguments against those that the classes of this generation take (`source`)."""
    _, lacking = call.arguments()
    for name in lacking:
        yield Verdict(
            flags.CHECK,
            Level.FAIL,
            f"NeMo's classes take no {name} in {call.generation}",
            source=source,
            fix="leave this option out, or choose another generation",
        )
    if not lacking:
        yield Verdict(flags.CHECK, Level.PASS, "the classes take every argument", source=source)


def unused(
    call: Call, *, build: Iterable[str], serving: Iterable[str], script: Iterable[str]
) -> Iterator[Verdict]:
    """Options of a container, of a build, of serving, and of upstream's script alone, where there is
    none of it."""
    options = call.options
    if not call.inside:
        yield from flags.unused(options, ["image"], "it runs in an environment")
    if options.mode == "load":
        yield from flags.unused(options, ("engine_folder", *build), "the engine is built already")
    elif options.mode == "export":
        yield from flags.unused(options, serving, "nothing is served")
    if not call.script:
        yield from flags.unused(options, script, "upstream's script alone takes it")


def emptied(call: Call) -> Iterator[Verdict]:
    """Upstream empties the folder that it builds in."""
    given = call.options.engine_folder
    if not given or call.options.mode == "load":
        return
    folder = Path(given)
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return  # it is made
    except OSError as error:
        yield Verdict(
            "engine-folder",
            Level.FAIL,
            "the engine folder cannot be looked at",
            f"{clean(given)}: {error.strerror}",
            fix="name a folder of yours",
            option="options.engine_folder",
        )
        return
    if names and MARK not in names:
        yield Verdict(
            "engine-folder",
            Level.FAIL,
            "the engine folder holds what is not ours, and upstream deletes what it finds",
            f"{len(names)} things in {clean(given)}",
            "delete_existing_files of upstream's export",
            "name an empty folder",
            "options.engine_folder",
        )
