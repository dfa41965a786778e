"""Whether the shared libpython that an embedded Triton needs can be found, before it is needed.

Triton runs a python model in `triton_python_backend_stub`, which links ``libpython3.X.so.1.0``. Where
the dynamic loader does not find that file the stub dies, and the server waits for it for ever: the
load request never returns. The server is started with the interpreter's own library folder first on
LD_LIBRARY_PATH; this looks where the loader will look, in its order.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from console.facts import Level, Verdict
from console.runtimes.host import child_environment
from console.runtimes.interpreter import Interpreter, ask
from console.text import clean

CHECK = "libpython"
SOURCE = "triton_python_backend_stub (nvidia-pytriton 0.7.0) is linked with libpython3.X.so.1.0"

# Loading the library and asking it: a file of the right name may be for another machine or broken.
_VERSION = """
import ctypes, sys
tell = ctypes.CDLL(sys.argv[1]).Py_GetVersion
tell.restype = ctypes.c_char_p
print(tell().decode().split()[0].rstrip('+'))
"""


@dataclass(frozen=True, slots=True)
class Library:
    """A libpython that loads. `version` is its own: ``3.11.7``."""

    path: Path
    version: str


def check(python: Path, environ: Mapping[str, str] = os.environ) -> Verdict:
    """Whether the stub for `python` will find its libpython, and of the right patch level.

    Fails when there is none that loads; warns when only another build's is found, whose version
    differs from the interpreter's (its standard library then does not match). Raises `DeckError`
    when `python` itself does not run.
    """
    return judge(ask(python), environ)


def judge(interpreter: Interpreter, environ: Mapping[str, str] = os.environ) -> Verdict:
    """`check` for an interpreter that has been asked already."""
    soname = f"libpython{interpreter.short}.so.1.0"
    library = find(interpreter, environ)
    if library is None:
        return Verdict(
            check=CHECK,
            level=Level.FAIL,
            summary=f"{soname} is not there: the embedded server would wait for ever for a model",
            figure=f"looked in {_looked_in(interpreter)}",
            source=SOURCE,
            fix=how_to_install(interpreter),
        )
    if library.version != interpreter.text:
        return Verdict(
            check=CHECK,
            level=Level.WARN,
            summary=f"{soname} belongs to another Python: models that start processes may fail",
            figure=f"{library.version} at {clean(str(library.path))}, Python is {interpreter.text}",
            source=SOURCE,
            fix=how_to_install(interpreter),
        )
    return Verdict(
        check=CHECK,
        level=Level.PASS,
        summary=f"{soname} found",
        figure=f"{library.version} at {clean(str(library.path))}",
        source=SOURCE,
    )


def find(interpreter: Interpreter, environ: Mapping[str, str] = os.environ) -> Library | None:
    """The first libpython that the loader will accept; None when there is none."""
    soname = f"libpython{interpreter.short}.so.1.0"
    for path in _candidates(interpreter, soname, environ):
        if path.is_file() and (version := _version_of(path, interpreter)):
            return Library(path, version)
    return None


def library_folders(interpreter: Interpreter) -> tuple[Path, ...]:
    """What belongs in front of LD_LIBRARY_PATH: where `sysconfig` says the library was installed,
    and the installation's own `lib`, which is right for Pythons that were moved after building."""
    return tuple(dict.fromkeys((interpreter.library_folder, interpreter.base_prefix / "lib")))


def _candidates(
    interpreter: Interpreter, soname: str, environ: Mapping[str, str]
) -> Iterator[Path]:
    for folder in library_folders(interpreter):
        if folder.is_absolute():
            yield folder / soname
    for place in environ.get("LD_LIBRARY_PATH", "").split(":"):
        if place:
            yield Path(place) / soname
    yield from _loader_cache(soname)
    multiarch = f"{platform.machine()}-linux-gnu"
    for place in (f"/lib/{multiarch}", f"/usr/lib/{multiarch}", "/lib64", "/usr/lib64"):
        yield Path(place) / soname
    yield Path("/lib") / soname
    yield Path("/usr/lib") / soname


def _loader_cache(soname: str) -> Iterator[Path]:
    """Entries of the loader's cache; `ldconfig` is in a folder that users often lack on PATH."""
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
    if not ldconfig:
        return
    listed = subprocess.run(
        [ldconfig, "-p"], capture_output=True, text=True, timeout=30, check=False
    )
    for line in listed.stdout.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow and name.split(" ")[0] == soname:
            yield Path(path)


def _version_of(library: Path, interpreter: Interpreter) -> str:
    done = subprocess.run(
        [str(interpreter.path), "-I", "-c", _VERSION, str(library)],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _looked_in(interpreter: Interpreter) -> str:
    own = ", ".join(clean(str(folder)) for folder in library_folders(interpreter))
    return f"{own}, LD_LIBRARY_PATH and the loader's cache"


def how_to_install(interpreter: Interpreter) -> str:
    """One line that gets the shared library for this interpreter."""
    prefix = interpreter.base_prefix
    if (prefix / "conda-meta").is_dir():
        return f"conda install --force-reinstall python={interpreter.text}"
    if "uv" in prefix.parts:
        return f"uv python install --reinstall {interpreter.text}"
    if ".pyenv" in prefix.parts or "pyenv" in prefix.parts:
        return (
            "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force"
            f" {clean(prefix.name)}; then create the environment again"
        )
    if prefix == Path("/usr"):
        family = _distribution_family()
        if family & {"debian", "ubuntu"}:
            return f"apt-get install libpython{interpreter.short}"
        if family & {"fedora", "rhel", "centos"}:
            return f"dnf install python{interpreter.short}-libs"
    return (
        f"build Python {interpreter.text} with --enable-shared, or set TRITONDECK_PYTHON to one"
        " that has its shared library (Debian and Ubuntu: /usr/bin/python3 with apt-get install"
        f" libpython{interpreter.short})"
    )


def _distribution_family() -> frozenset[str]:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return frozenset()
    return frozenset((release.get("ID", ""), *release.get("ID_LIKE", "").split()))
