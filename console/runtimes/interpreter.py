"""Python interpreters on this host: which version one is, and one that fits a range."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from console.facts import DeckError
from console.runtimes.host import child_environment
from console.text import clean

_ASK = """
import json, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "base": getattr(sys, "_base_executable", None) or sys.executable,
    "base_prefix": sys.base_prefix,
    "library_folder": get("LIBDIR") or "",
    "library": get("INSTSONAME") or "",
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What one interpreter says about itself. `base` is the one behind a virtual environment."""

    path: Path
    version: tuple[int, int, int]
    base: Path
    base_prefix: Path
    library_folder: Path
    """``sysconfig``'s LIBDIR: where a shared libpython was installed, if one was built."""
    library: str
    """``sysconfig``'s INSTSONAME: ``libpython3.11.so.1.0``, or an archive for a static build."""

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def short(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def ask(python: Path) -> Interpreter:
    """Run `python` isolated and read what it is; `DeckError` when it is no working interpreter."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _ASK],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise ValueError(done.stderr.strip() or f"it ended with status {done.returncode}")
        told = json.loads(done.stdout)
        version = told["version"]
        return Interpreter(
            path=python,
            version=(version[0], version[1], version[2]),
            base=Path(told["base"]),
            base_prefix=Path(told["base_prefix"]),
            library_folder=Path(told["library_folder"]),
            library=told["library"],
        )
    except (OSError, ValueError, KeyError, IndexError, subprocess.TimeoutExpired) as error:
        raise DeckError(
            f"{clean(str(python))} is no working Python",
            why=clean(str(error)),
            fix="name another interpreter: `python` in the settings file or TRITONDECK_PYTHON",
        ) from error


def find(wanted: str, version_range: str) -> Interpreter:
    """The interpreter to create an environment with.

    `wanted` is the one that the operator named (a path or a command); with none it is the console's
    own, and if that is outside `version_range` (``>=3.11,<3.13``) the first on PATH that is inside.
    Raises `DeckError` when there is none.
    """
    if wanted:
        path = Path(wanted).expanduser().absolute() if "/" in wanted else wanted
        found = shutil.which(path)
        if not found:
            raise DeckError(
                f"no such Python: {clean(wanted)}",
                fix="name an interpreter that exists, or none for the console's own",
            )
        interpreter = ask(Path(found))
        if not fits(interpreter.version, version_range):
            raise DeckError(
                f"{clean(wanted)} is Python {interpreter.text}",
                why=f"the packages of this environment need Python {version_range}",
                fix="name an interpreter in that range",
            )
        return interpreter
    own = ask(Path(sys.executable))
    if fits(own.version, version_range):
        return own
    for minor in range(20, 8, -1):
        if fits((3, minor, 0), version_range) and (found := shutil.which(f"python3.{minor}")):
            try:
                return ask(Path(found))
            except DeckError:
                continue  # a version manager's shim for a version that is not switched on
    raise DeckError(
        f"no Python {version_range} on this host",
        why=f"the console's own is {own.text}",
        fix="install one, or name it: `python` in the settings file or TRITONDECK_PYTHON",
    )


_CLAUSE = re.compile(r"(>=|<=|==|!=|<|>)\s*(\d+)\.(\d+)")


def fits(version: tuple[int, int, int], version_range: str) -> bool:
    """Whether major.minor is in a range of comparisons: ``>=3.11,<3.13``."""
    here = version[:2]
    for sign, major, minor in _CLAUSE.findall(version_range):
        there = (int(major), int(minor))
        held = {
            ">=": here >= there,
            "<=": here <= there,
            "==": here == there,
            "!=": here != there,
            "<": here < there,
            ">": here > there,
        }[sign]
        if not held:
            return False
    return True
