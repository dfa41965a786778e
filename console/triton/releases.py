"""What each Triton release carries and takes, and which holes it has: dated data, before any probe.

The data is `releases.toml`; a ``triton.toml`` in the operator's settings folder is laid over it. What
a server or image was asked itself always counts more.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from console import dated
from console.facts import Level, ToolFacts, Verdict
from console.settings import folders
from console.text import clean

if TYPE_CHECKING:
    from console.planning.server import ServerSection

Number = Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")]
IMAGE = "nvcr.io/nvidia/tritonserver"
"""Where NVIDIA publishes Triton's images."""

NEWEST = "26.08"
"""The newest release that the data was checked against; the default image."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flavour(Frozen):
    """One kind of image."""

    suffix: str
    backends: frozenset[str]


class Engine(Frozen):
    """What the image of an engine (TensorRT-LLM, vLLM) has in place of the plain one's."""

    version: str
    python: Number
    cuda: Number
    tensorrt: str = ""


class Release(Frozen):
    triton: Number
    python: Number
    cuda: Number
    onnxruntime: str
    trtllm: Engine | None = None
    vllm: Engine | None = None


class Hole(Frozen):
    """A known weakness of every release before `fixed_in`."""

    ids: tuple[str, ...]
    fixed_in: Number
    level: Literal["warn", "fail"]
    what: str
    needs: Literal["", "sagemaker"] = ""


class Data(Frozen):
    checked: datetime.date
    sources: tuple[str, ...]
    drivers: dict[str, int]
    flavours: dict[str, Flavour]
    flags: dict[str, Number]
    holes: dict[str, Hole]
    releases: dict[Annotated[str, Field(pattern=r"^\d\d\.\d\d$")], Release]


@dataclass(frozen=True, slots=True)
class Expected:
    """What an image is said to carry; `known` is False for one that no data tells about."""

    reference: str
    known: bool
    triton: str = ""
    python: str = ""
    cuda: str = ""
    driver: int = 0
    """Oldest driver (major version) that runs its CUDA; 0 when not known."""
    backends: frozenset[str] = frozenset()
    source: str = ""


def data(override: Path | None = None) -> Data:
    """The whole data with its date; `UsageError` that names file, line and key."""
    file = override or folders().config / "triton.toml"
    return dated.load(Data, "console.triton", "releases.toml", file)


def tags() -> tuple[str, ...]:
    """Every tag of NVIDIA's images that the data knows, the newest release first."""
    known = data()
    engines = {"py3": "triton", "trtllm": "trtllm", "vllm": "vllm"}
    return tuple(
        f"{number}{kind.suffix}"
        for number, release in sorted(known.releases.items(), reverse=True)
        for name, kind in known.flavours.items()
        if getattr(release, engines.get(name, "triton"))
    )


def reference(image: str) -> str:
    """The full name of an image: a bare tag (``24.10-py3``) is one of NVIDIA's Triton images."""
    wanted = image or f"{NEWEST}-py3"
    return wanted if re.search(r"[/:@]", wanted) else f"{IMAGE}:{wanted}"


def expected(image: str) -> Expected:
    """What the image called `image` carries, as the data says; nothing is asked."""
    full = reference(image)
    known = data()
    found = re.fullmatch(rf"{re.escape(IMAGE)}:(\d\d\.\d\d)(-[\w-]+)?(?:@sha256:[0-9a-f]+)?", full)
    release = known.releases.get(found[1]) if found else None
    flavour = _flavour(known, found[2] or "") if found else ""
    if found is None or release is None or not flavour:
        return Expected(full, False)
    engines = {"trtllm": release.trtllm, "vllm": release.vllm}
    inside = engines.get(flavour) or release
    return Expected(
        reference=full,
        known=True,
        triton=release.triton,
        python=inside.python,
        cuda=inside.cuda,
        driver=known.drivers.get(inside.cuda.partition(".")[0], 0),
        backends=known.flavours[flavour].backends,
        source=f"release table of {known.checked}",
    )


def _flavour(known: Data, suffix: str) -> str:
    return next((name for name, kind in known.flavours.items() if kind.suffix == suffix), "")


def flag_known(flag: str, version: str) -> bool:
    """Whether the release `version` takes `flag`, as the data says; an unlisted flag is old."""
    first = data().flags.get(flag)
    return first is None or (bool(version) and parsed(version) >= parsed(first))


def parsed(version: str) -> tuple[int, ...]:
    """``2.59.1`` as numbers; what follows the digits (``2.73.0dev``) is left out."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def tag_of(version: str) -> str:
    """The container release of a Triton version (``2.51.0`` → ``24.10``); empty when not listed."""
    return next((t for t, r in data().releases.items() if r.triton == version), "")


def safety(version: str, *, exposed: bool, whose: str = "this server") -> Iterator[Verdict]:
    """What the release's age means: one verdict, with every known hole it has.

    `exposed`: others than this machine reach it. SageMaker's endpoint is never on here.
    """
    known = data()
    source = f"table of known holes, {known.checked}"
    shown = clean(version)
    if not version:
        yield Verdict(
            "server-age", Level.UNKNOWN, f"the version of {whose} is not known yet", source=source
        )
        return
    holes = [
        hole
        for hole in known.holes.values()
        if not hole.needs and parsed(version) < parsed(hole.fixed_in)
    ]
    if not holes:
        yield Verdict("server-age", Level.PASS, f"no known hole in Triton {shown}", shown, source)
        return
    fail = exposed or any(hole.level == "fail" for hole in holes)
    tag = tag_of(version)
    yield Verdict(
        "server-age",
        Level.FAIL if fail else Level.WARN,
        f"{whose} is Triton {shown}{f' (container {tag})' if tag else ''}: "
        + "; ".join(hole.what for hole in holes),
        ", ".join(i for hole in holes for i in hole.ids),
        source,
        "keep it on loopback and load only models that you trust, or serve with a newer Triton",
        "server.expose" if exposed else "server.launcher",
    )


def flag_verdicts(server: ServerSection, tools: ToolFacts) -> Iterator[Verdict]:
    """Whether the server at hand takes the options that only some builds have."""
    wanted = {
        "--allow-client-shm": ("allow_client_shm", server.allow_client_shm),
        "--grpc-max-response-pool-size": (
            "grpc_max_response_pool_size",
            bool(server.grpc_max_response_pool_size),
        ),
    }
    accepted = tools.flags.get("tritonserver")
    for flag, (name, asked) in wanted.items():
        if not asked:
            continue
        if accepted is None:
            takes, source = flag_known(flag, tools.triton_version), "the release table"
        else:
            takes, source = flag in accepted, "tritonserver --help"
        yield Verdict(
            f"server-flag-{name.replace('_', '-')}",
            Level.PASS if takes else Level.WARN,
            f"the server takes {flag}" if takes else f"the server has no {flag}: it is left out",
            clean(tools.triton_version),
            source,
            "" if takes else "serve with a newer Triton",
            "" if takes else f"server.{name}",
        )
