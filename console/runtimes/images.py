"""Makes one image exist in an engine: ``python -m console.runtimes.images JOB.json``.

Runs as a process of its own under a keeper, as `make_environment` does: its output is the step's
log, lines ``[tritondeck] progress 0.42 message`` tell how far it is. It loads the image from its
archive, pulls it (by digest where one is given), or builds a derived one on a base that is here.
Nothing else of tritondeck pulls.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from console import storage
from console.facts import DeckError, UsageError
from console.planning.containers import PIP_FOLDER, dockerfile
from console.planning.plan import ImageSpec
from console.runtimes import engine_errors, engines
from console.runtimes.engine import Engine, engine_environment
from console.runtimes.host import Launch
from console.runtimes.pip import sources
from console.settings import PackageSettings, Settings
from console.text import clean, human_bytes, redact

_LAYER = re.compile(
    r"^(?P<id>[0-9a-f]{12}): (?P<state>Pulling fs layer|Waiting|Downloading|Verifying Checksum"
    r"|Download complete|Extracting|Pull complete|Already exists)"
)
_STATES = {"Download complete": 0.5, "Pull complete": 1.0, "Already exists": 1.0}
_BUILD_STEP = re.compile(r"^(?:Step|STEP) (?P<at>\d+)/(?P<of>\d+)")
_LOADED = re.compile(r"^Loaded image(?:\(s\)| ID)?: (?P<image>\S+)", re.MULTILINE)
_TAIL = 200


class Job(BaseModel):
    """What the process is asked to make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: ImageSpec
    engine: str
    packages: PackageSettings = PackageSettings()


def why_not(spec: ImageSpec, engine: Engine) -> str:
    """Empty when the engine has the image, else why the step has to run."""
    found = engine.image(spec.tag)
    if found is None:
        return f"{engine.name} does not have {clean(spec.tag)}"
    if spec.tar and spec.digest not in ("", found.id):
        return f"{clean(spec.tag)} is another image than the pinned one"
    return ""


def creation(
    spec: ImageSpec,
    engine: str,
    settings: Settings,
    job_file: Path,
    environ: Mapping[str, str] = os.environ,
) -> Launch:
    """The process that makes the image exist; `job_file` (0600) is written for it to read."""
    job = Job(spec=spec, engine=engine, packages=settings.packages)
    storage.write_private(job_file, job.model_dump_json(indent=1).encode())
    env = engine_environment(environ)
    env |= {k: v for k, v in environ.items() if k.startswith("PIP_") or k == "PYTHONPATH"}
    argv = (sys.executable, "-P", "-m", "console.runtimes.images", str(job_file))
    return Launch(argv, env, Path("/"))


# ---------------------------------------------------------------------------- the process


def make(job: Job, folder: Path) -> None:
    """Make the image exist unless it does; raises `DeckError` in words."""
    engine, spec = engines.engine(job.engine), job.spec
    if not why_not(spec, engine):
        tell("the image is here", 1.0)
        return
    if spec.base:
        _build(engine, job, folder)
    elif spec.tar:
        _load(engine, spec)
    else:
        _pull(engine, spec)
    found = engine.image(spec.tag)
    if found is None:
        raise DeckError(
            f"the image {clean(spec.tag)} is still not here",
            why=f"{engine.name} reported success",
            fix="look at this step's log, and at the image's name",
        )
    if spec.tar and spec.digest and found.id != spec.digest:
        raise DeckError(
            "the archive's image is not the one that is pinned",
            why=f"its id is {clean(found.id)}, not {spec.digest}",
            fix="correct server.image_digest, or get the right archive",
        )
    tell(f"{spec.tag}, {human_bytes(found.size)}", 1.0)


def _pull(engine: Engine, spec: ImageSpec) -> None:
    layers = Layers()
    tell(f"pulling {spec.tag}", 0.0)
    _run(engine, ["pull", spec.tag], "pull the image", layers.line)


def _load(engine: Engine, spec: ImageSpec) -> None:
    archive = Path(spec.tar)
    if not archive.is_file():
        raise DeckError(
            f"the image's archive {clean(spec.tar)} is not there",
            fix="copy it here, or correct server.image_tar",
        )
    size = human_bytes(archive.stat().st_size)
    tell(f"loading {archive.name} ({size})", 0.0)
    said = _run(engine, ["load", "--input", spec.tar], "load the image", lambda line: None)
    loaded = _LOADED.findall(said)
    if engine.image(spec.tag) is None and loaded:
        raise DeckError(
            f"{clean(archive.name)} holds another image",
            why=f"it holds {clean(', '.join(loaded))}, not {clean(spec.tag)}",
            fix="correct server.image, or make the archive of the right one",
        )


def _build(engine: Engine, job: Job, folder: Path) -> None:
    spec = job.spec
    if engine.image(spec.base) is None:
        # The build would pull it, and no plan has said so.
        raise DeckError(
            f"the base image {clean(spec.base)} is not here",
            fix="run the deployment again from the step that makes it",
        )
    context = folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    (context / "pip").mkdir(parents=True, mode=0o755)
    (context / "Dockerfile").write_text(dockerfile(spec), encoding="utf-8")
    (context / "requirements.txt").write_text("\n".join(spec.requirements) + "\n", encoding="utf-8")
    _pip_setup(context / "pip", job.packages)
    if engine.ask("buildx", "version").code:
        engine.env["DOCKER_BUILDKIT"] = "0"  # the CLI wants a plugin otherwise
    tell(f"building {spec.tag}", 0.0)
    try:
        words = ["build", "--network", "host", "--tag", spec.tag, str(context)]
        _run(engine, words, "build the image", _build_progress)
    finally:
        shutil.rmtree(context)


def _build_progress(line: str) -> None:
    if match := _BUILD_STEP.match(line):
        tell(line, (int(match["at"]) - 1) / max(1, int(match["of"])))


def _pip_setup(folder: Path, packages: PackageSettings) -> None:
    """How pip is set up here, for the build: indexes, certificate, wheels of a wheelhouse.

    What goes into a layer can be read by whoever gets the image: a URL with a password is refused.
    """
    env = dict(os.environ) | sources(packages, os.environ)
    lines = ["[global]"]
    for variable, name in (
        ("PIP_INDEX_URL", "index-url"),
        ("PIP_EXTRA_INDEX_URL", "extra-index-url"),
    ):
        for url in env.get(variable, "").split():
            if urlsplit(url).password or urlsplit(url).username:
                raise DeckError(
                    "an index with a password cannot be used to build an image",
                    why="the image would carry the password",
                    fix="set packages.wheelhouse to a folder of the wheels, or use another index",
                )
        if env.get(variable):
            lines.append(f"{name} = {env[variable]}")
    if proxy := env.get("PIP_PROXY", ""):
        lines.append(f"proxy = {proxy}")
    certificates = Path(env.get("PIP_CERT") or env.get("SSL_CERT_FILE") or "/none")
    if certificates.is_file():
        shutil.copyfile(certificates, folder / "certificates.pem")
        lines.append(f"cert = {PIP_FOLDER}/certificates.pem")
    if packages.wheelhouse:
        shutil.copytree(Path(packages.wheelhouse).expanduser(), folder / "wheels")
        lines.append(f"find-links = {PIP_FOLDER}/wheels")
    if packages.offline:
        lines.append("no-index = true")
    (folder / "pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass
class Layers:
    """Docker's lines about layers as one fraction: fetched counts half, unpacked whole."""

    done: dict[str, float] = field(default_factory=dict)

    def line(self, line: str) -> None:
        if not (match := _LAYER.match(line)):
            return
        before = self.done.get(match["id"], 0.0)
        self.done[match["id"]] = max(before, _STATES.get(match["state"], 0.0))
        whole = sum(1 for share in self.done.values() if share == 1.0)
        fraction = sum(self.done.values()) / len(self.done)
        tell(f"{whole} of {len(self.done)} layers", fraction * 0.98)


def _run(engine: Engine, words: Sequence[str], doing: str, each: Callable[[str], None]) -> str:
    """Run the engine, show what it says, raise a refusal in our words; its last lines."""
    engine.ask("version")  # raises when nothing answers
    process = engine.popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    tail: list[str] = []
    for raw in process.stdout:
        line = redact(clean(raw.decode(errors="replace").rstrip("\n")))
        print(line, flush=True)
        tail = [*tail[-_TAIL:], line]
        each(line)
    if process.wait():
        raise engine_errors.explain("\n".join(tail), doing)
    return "\n".join(tail)


def tell(message: str, fraction: float) -> None:
    """One progress line of the form that the runner reads."""
    print(f"[tritondeck] progress {fraction:.3f} {clean(message)}", flush=True)


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        # SystemExit ends this process; the engine's command line ends with it.
        signal.signal(number, lambda signum, frame: sys.exit(128 + signum))
    os.umask(0o022)  # what goes into the build is read by the image's users
    job_file = Path(sys.argv[1])
    try:
        job = Job.model_validate_json(job_file.read_bytes())
    except (OSError, ValidationError) as error:
        problem = UsageError(f"cannot read the job {clean(str(job_file))}", why=clean(str(error)))
        print(f"[tritondeck] error {problem}", flush=True)
        return problem.exit_code
    try:
        make(job, job_file.parent)
    except DeckError as error:
        print(f"[tritondeck] error {redact(clean(str(error)))}", flush=True)
        return error.exit_code
    except OSError as error:
        told = storage.storage_error(error, Path(error.filename or job_file.parent))
        print(f"[tritondeck] error {told}", flush=True)
        return told.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
