"""pip as a child process: its settings, its output as progress, its failures in words."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from console.facts import DeckError, Progress
from console.settings import PackageSettings
from console.text import clean, human_bytes, redact

POLL = 1.0
"""Seconds between looks at the disk while pip installs, which it does without a word."""
TAIL = 60
"""Lines of output that are kept to explain a failure."""

OPTIONS = (
    *("--no-input", "--no-color", "--disable-pip-version-check"),
    *("--progress-bar", "off"),  # "raw" came with pip 24.1; ensurepip of 3.11 and 3.12 is older
)


def sources(
    packages: PackageSettings, environ: Mapping[str, str], *, torch: bool = False
) -> dict[str, str]:
    """pip's environment variables for where packages come from.

    Variables and not options, because argv is for everybody to see and an index URL may hold a
    password. With `torch`, the index of torch's wheels is the only one.
    """
    env: dict[str, str] = {}
    if packages.index_url:
        env["PIP_INDEX_URL"] = packages.index_url
    if packages.extra_index_urls:
        env["PIP_EXTRA_INDEX_URL"] = " ".join(packages.extra_index_urls)
    if torch and packages.torch_index_url:
        env["PIP_INDEX_URL"] = packages.torch_index_url
        env["PIP_EXTRA_INDEX_URL"] = ""
    if packages.proxy:
        env["PIP_PROXY"] = packages.proxy
    if packages.wheelhouse:
        place = str(Path(packages.wheelhouse).expanduser().absolute())
        others = "" if packages.offline else environ.get("PIP_FIND_LINKS", "")
        env["PIP_FIND_LINKS"] = f"{place} {others}".strip()
    if packages.offline:
        env["PIP_NO_INDEX"] = "1"
    return env


PIN = re.compile(r"^[A-Za-z0-9._-]+\s*==")
"""A line that may stand among constraints: an exact version, without extras."""


class Install:
    """One ``pip install``: prints its output cleaned, tells progress, raises in words."""

    def __init__(self, python: Path, env: Mapping[str, str], progress: Progress) -> None:
        self.python = python
        self.env = dict(env)
        self.progress = progress
        self._expected = 0
        self._seen: set[str] = set()
        self._already = 0
        self._installing = 0
        self._done = -1
        self._tail: list[str] = []

    def run(self, arguments: Sequence[str], expected: int, lock: int) -> None:
        """Install `arguments` (words after ``pip install``), some `expected` distributions.

        `lock` is inherited by pip, so that nobody takes the environment for free while an orphaned
        pip still writes into it.
        """
        self._expected = max(expected, 1)
        self._already = self._installed()
        process = subprocess.Popen(
            [str(self.python), "-m", "pip", "install", *OPTIONS, *arguments],
            env=self.env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
        )
        self._follow(process)
        if process.wait():
            raise explain("\n".join(self._tail), self.python)

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(POLL):
                    self._look_at_disk()
                    continue
                block = os.read(process.stdout.fileno(), 65536)
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._line(line.decode("utf-8", "replace"))
                if not block:
                    if rest:
                        self._line(rest.decode("utf-8", "replace"))
                    return

    def _line(self, raw: str) -> None:
        line = redact(clean(raw))
        if line.startswith("Requirement already satisfied"):
            self._count(line.split()[3])  # said once a dependant: hundreds of lines, no news
            return
        print(line, flush=True)
        self._tail = [*self._tail[1 - TAIL :], line]
        words = line.split()
        if line.startswith(("Collecting ", "Processing ")) and len(words) > 1:
            name = self._count(words[1])
            total = max(self._expected, len(self._seen))
            self.progress(f"collecting {len(self._seen)} of {total}: {name}", self._collected())
        elif words[:1] == ["Downloading"] and len(words) > 1 and ".metadata" not in line:
            file = words[1].rpartition("/")[2]
            self.progress(f"downloading {' '.join((file, *words[2:]))}", self._collected())
        elif words[:2] == ["Building", "wheel"] and len(words) > 3:
            self.progress(f"building {words[3]}", self._collected())
        elif line.startswith("Installing collected packages:"):
            self._installing = line.count(",") + 1
            self._look_at_disk()

    def _count(self, requirement: str) -> str:
        name = re.split(r"[\[<>=!~;@( ]", requirement.rpartition("/")[2])[0]
        self._seen.add(re.sub(r"[-_.]+", "-", name).lower())
        return name

    def _collected(self) -> float:
        return 0.6 * min(1.0, len(self._seen) / self._expected)

    def _look_at_disk(self) -> None:
        if self._installing:
            done = min(max(0, self._installed() - self._already), self._installing)
            if done == self._done:
                return
            self._done = done
            fraction = 0.6 + 0.4 * done / self._installing
            self.progress(f"installing {done} of {self._installing}", fraction)

    def _installed(self) -> int:
        folder = self.python.parent.parent
        return sum(1 for _ in folder.glob("lib/python3.*/site-packages/*.dist-info"))


_UNREACHABLE = (
    "NewConnectionError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Name or service not known",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "Cannot connect to proxy",
    "SSLError",
    "CERTIFICATE_VERIFY_FAILED",
)

_MISSING = re.compile(r"No matching distribution found for ([^\s(]+)")
# Every pin is a constraint too, and pip tells a pin that it has no candidate for as a conflict of
# the pin with itself.
_MISSING_PIN = re.compile(
    r"^ *The user requested (\S+)\n *The user requested \(constraint\) \1\n\s*(?:\n|\Z)", re.M
)
_CONFLICT = re.compile(r"^The conflict is caused by:\n((?: +\S.*(?:\n|\Z))+)", re.M)


def explain(output: str, python: Path) -> DeckError:
    """What pip's (or venv's) last words mean, and what to do about it."""
    folder = python.parent.parent
    raw = output.strip()
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return disk_full(folder, raw)
    if "ensurepip is not available" in output or "No module named ensurepip" in output:
        return DeckError(
            "this Python cannot make virtual environments",
            why="its ensurepip module is not installed",
            fix="Debian and Ubuntu: apt-get install python3-venv",
            raw=raw,
        )
    if "No module named pip" in output:
        return DeckError(
            "there is no pip in the new environment",
            why="its Python was built without ensurepip",
            fix="Debian and Ubuntu: apt-get install python3-venv; otherwise name another Python",
            raw=raw,
        )
    if wanted := _MISSING.search(output) or _MISSING_PIN.search(output):
        unreachable = any(word in output for word in _UNREACHABLE)
        return DeckError(
            "cannot reach the package index"
            if unreachable
            else f"no package source has {wanted[1]} for this Python and machine",
            why=_last_error(output),
            fix="check index_url, proxy, wheelhouse and offline under [packages] in the settings",
            raw=raw,
        )
    if any(word in output for word in _UNREACHABLE):
        return DeckError(
            "cannot reach the package index",
            why=_last_error(output),
            fix="check the network, and index_url and proxy under [packages] in the settings",
            raw=raw,
        )
    if conflict := _CONFLICT.search(output):
        return DeckError(
            "the pinned packages do not fit together",
            why="; ".join(line.strip() for line in conflict[1].splitlines()),
            fix="the pins are in backends/catalog/environments.toml",
            raw=raw,
        )
    return DeckError("pip failed", why=_last_error(output), fix="its output is above", raw=raw)


def disk_full(folder: Path, raw: str = "") -> DeckError:
    """The words for a full disk, with what is free now."""
    free = _free(folder, *folder.parents)
    return DeckError(
        "the disk is full",
        why=f"{human_bytes(free)} free at {clean(str(folder.parent))}",
        fix="free some space (`tritondeck env list` shows what environments take), or set"
        " TRITONDECK_ENVIRONMENTS to a folder on a larger disk; pip also needs room in TMPDIR",
        raw=raw,
    )


def _free(*places: Path) -> int:
    for place in places:
        if place.exists():
            info = os.statvfs(place)
            return info.f_bavail * info.f_frsize
    return 0


def _last_error(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    # Which comes with a help page and no reason; the line before it says what conflicts.
    told = (line for line in lines if "ResolutionImpossible" not in line)
    errors = [line for line in told if line.startswith("ERROR:")]
    return next(iter([*errors[-1:], *lines[-1:]]), "it said nothing").removeprefix("ERROR: ")


def names(requirements: Iterable[str]) -> set[str]:
    """Normalised distribution names of requirement lines."""
    found = (re.split(r"[\[<>=!~;@ ]", line.strip())[0] for line in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found if name and name[0] != "-"}
