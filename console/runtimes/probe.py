"""What another Python environment holds, asked of its own interpreter."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.facts import DeckError
from console.runtimes.host import child_environment
from console.text import clean

_PACKAGES = """
import importlib.metadata, json, platform, re, sys
found = {}
for d in importlib.metadata.distributions():
    name = d.metadata["Name"]
    if name:
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), d.version)
print(json.dumps({"python": platform.python_version(), "packages": dict(sorted(found.items()))}))
"""

# The parent of a dotted name is looked for, not the module itself: `find_spec` of a sub-module
# imports its parents, and these take seconds.
_MISSING = """
import importlib.util, json, sys
names = sys.argv[1:]
print(json.dumps([n for n in names if importlib.util.find_spec(n.partition(".")[0]) is None]))
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """`packages`: normalised distribution name to version."""

    python: str
    packages: dict[str, str]


def packages(python: Path) -> Installed:
    """Installed distributions; `DeckError` when the interpreter cannot tell."""
    told = _asked(python, _PACKAGES)
    return Installed(told["python"], told["packages"])


def missing(python: Path, modules: tuple[str, ...]) -> tuple[str, ...]:
    """Which top-level packages of `modules` are not installed; imports none of them."""
    return tuple(_asked(python, _MISSING, *modules)) if modules else ()


def _asked(python: Path, program: str, *arguments: str) -> Any:
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", program, *arguments],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise ValueError(done.stderr.strip() or f"it ended with status {done.returncode}")
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise DeckError(
            f"cannot ask {clean(str(python))} what is installed",
            why=clean(str(error)),
            fix="create the environment again: `tritondeck env remove`, then deploy",
        ) from error
