"""A stand-in for NVIDIA's Triton image, made of the managed `embedded` environment.

The real `tritonserver` of the ``nvidia-pytriton`` wheel lies where the official image has it, with
NumPy < 2, ONNX Runtime and SentencePiece for python models, the user ``triton-server`` (1000) and an
entry point that prints a banner and becomes its arguments. It has no ONNX Runtime *Triton* backend,
as small images have not. What it copies of the official image was read in ``build.py`` of
triton-inference-server/server at r24.10.

The archive is kept in a cache folder under the digest of everything that decides what is in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import managed

REFERENCE = "nvcr.io/nvidia/tritonserver:24.10-py3"
"""The name of the official image: the plan text of an operator runs unchanged."""

BANNER = "== Triton Inference Server (stand-in) =="
_ENTRYPOINT = f"#!/bin/bash\necho '{BANNER}'\nexec \"$@\"\n"
_USERS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n"
    "triton-server:x:1000:1000::/home/triton-server:/bin/bash\n",
    "etc/group": "root:x:0:\ntriton-server:x:1000:\n",
}
_PROGRAMS = (
    "bash",
    "sh",
    "cat",
    "env",
    "id",
    "ls",
    "sleep",
    "stat",
    "mkdir",
    "rm",
    "kill",
    "head",
    "grep",
    "touch",
)
_PACKAGES = ("numpy", "onnxruntime", "sentencepiece", "pip", "setuptools")
_NOT_NEEDED = frozenset({"test", "site-packages", "idlelib", "tkinter", "turtledemo", "ensurepip"})
_BACKEND = "opt/tritonserver/backends/python"

CHANGES = (
    "ENV PATH=/opt/tritonserver/bin:/usr/local/bin:/usr/bin:/bin",
    "ENV LD_LIBRARY_PATH=/usr/local/lib",
    "WORKDIR /opt/tritonserver",
    'ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]',
    "LABEL com.nvidia.tritonserver.version=2.51.0",
)


def archive() -> Path:
    """The root file system as a tar, made when it is not there (seconds)."""
    with kept("archive") as file:
        if not file.is_file():
            part = file.with_suffix(".part")
            with tarfile.open(part, "w") as tar:
                _Root(tar, managed("embedded")).fill()
            part.rename(file)
    return file


@contextmanager
def kept(kind: str) -> Iterator[Path]:
    """Where something made of the image is kept between sessions, under a lock; older ones go."""
    environment = managed("embedded")
    recipe = hashlib.sha256(Path(__file__).read_bytes() + environment.name.encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "tritondeck-tests" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{kind}-{recipe[:12]}"
    with (folder / f".{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in folder.glob(f"{kind}-*"):
            if old.is_file() and old != place:
                old.unlink()
            elif old != place:
                shutil.rmtree(old)
        yield place


class _Root:
    """Writes the root file system into `tar`, each library that a program needs once."""

    def __init__(self, tar: tarfile.TarFile, environment: Path) -> None:
        self.tar = tar
        self.environment = environment
        self.python = _ask(environment / "bin" / "python")
        self.packages = Path(self.python["purelib"])
        self.needed: set[Path] = set()

    def fill(self) -> None:
        for folder in ("tmp", "root", "models", "home/triton-server", "var/tmp", "run"):
            self._folder(folder, 0o1777 if folder.endswith("tmp") else 0o755)
        for path, text in _USERS.items():
            self._text(path, text)
        self._text("opt/nvidia/nvidia_entrypoint.sh", _ENTRYPOINT, 0o755)
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        if certificates.is_file():
            self._file(certificates, "etc/ssl/certs/ca-certificates.crt")
        for program in _PROGRAMS:
            found = shutil.which(program)
            assert found, f"no {program} here"
            self._file(Path(found), f"usr/bin/{program}", 0o755)
        for name in ("bin", "lib", "lib64"):
            self._link(name, f"usr/{name}")
        self._interpreter()
        self._triton()
        self._libraries()

    def _interpreter(self) -> None:
        version = self.python["version"]
        base = Path(self.python["base"])
        self._file(base.resolve(), f"usr/local/bin/python{version}", 0o755)
        self._link("usr/local/bin/python3", f"python{version}")
        library = Path(self.python["libpython"])
        self._file(library.resolve(), f"usr/local/lib/{library.name}", 0o755)
        home = f"usr/local/lib/python{version}"
        for entry in sorted(Path(self.python["stdlib"]).iterdir()):
            if entry.name not in _NOT_NEEDED and not entry.name.startswith("config-"):
                self._tree(entry, f"{home}/{entry.name}")
        for name in self._distributions():
            for entry in self._top_level(name):
                self._tree(entry, f"{home}/site-packages/{entry.name}")

    def _distributions(self) -> list[str]:
        """The packages that python models use, and all that these need."""
        known = {d.name: d for d in importlib.metadata.distributions(path=[str(self.packages)])}
        by_name = {_normal(name): d for name, d in known.items()}
        queue, found = list(_PACKAGES), []
        while queue:
            name = _normal(re.split(r"[^A-Za-z0-9_.-]", queue.pop().strip())[0])
            if name in found or name not in by_name:
                continue
            found.append(name)
            queue += [r for r in by_name[name].requires or () if "extra ==" not in r]
        return found

    def _top_level(self, name: str) -> Iterator[Path]:
        distribution = next(
            d
            for d in importlib.metadata.distributions(path=[str(self.packages)])
            if _normal(d.name) == name
        )
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
        yield from (self.packages / top for top in sorted(tops - {"__pycache__"}))

    def _triton(self) -> None:
        version = self.python["version"]
        source = self.packages / "pytriton" / "tritonserver"
        self._file(source / "bin" / "tritonserver", "opt/tritonserver/bin/tritonserver", 0o755)
        self._tree(self.packages / "nvidia_pytriton.libs", "opt/tritonserver/lib")
        # Backend and stub look for their libraries in /nvidia_pytriton.libs from where they lie.
        self._link("nvidia_pytriton.libs", "opt/tritonserver/lib")
        for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
            self._file(source / "backends" / "python" / name, f"{_BACKEND}/{name}")
        stub = source / "python_backend_stubs" / version / "triton_python_backend_stub"
        self._file(stub, f"{_BACKEND}/{stub.name}", 0o755)
        self._tree(source / "caches", "opt/tritonserver/caches")

    def _libraries(self) -> None:
        """What `ldd` names of the host's libraries, in the folders where the loader looks."""
        ours = (str(self.environment), str(Path(self.python["libpython"]).parent))
        places = {Path("/lib64/ld-linux-x86-64.so.2")} if Path("/lib64").exists() else set()
        done = subprocess.run(
            ["ldd", *map(str, sorted(self.needed))], capture_output=True, text=True, check=False
        )
        for line in done.stdout.splitlines():
            if match := re.search(r"(?:=> |^\s+)(/\S+) \(0x", line):
                places.add(Path(match[1]))
        for place in sorted(places):
            inside = str(place).removeprefix("/usr").lstrip("/")
            own = str(place).startswith(ours) or place.name.startswith("libpython")
            if not own and "nvidia_pytriton" not in str(place):
                self._file(place.resolve(), f"usr/{inside}", 0o755)

    # -- entries ------------------------------------------------------------------------

    def _tree(self, source: Path, inside: str) -> None:
        if source.is_file():
            return self._file(source, inside)
        for entry in sorted(source.rglob("*")):
            if entry.is_file() and "__pycache__" not in entry.parts:
                self._file(entry, f"{inside}/{entry.relative_to(source)}")
        return None

    def _file(self, source: Path, inside: str, mode: int = 0) -> None:
        if mode or ".so" in source.name:
            self.needed.add(source)
        info = tarfile.TarInfo(inside)
        status = source.stat()
        info.size, info.mode = status.st_size, mode or (0o755 if status.st_mode & 0o100 else 0o644)
        with source.open("rb") as stream:
            self.tar.addfile(info, stream)

    def _text(self, inside: str, text: str, mode: int = 0o644) -> None:
        info = tarfile.TarInfo(inside)
        data = text.encode()
        info.size, info.mode = len(data), mode
        self.tar.addfile(info, io.BytesIO(data))

    def _folder(self, inside: str, mode: int) -> None:
        info = tarfile.TarInfo(inside)
        info.type, info.mode = tarfile.DIRTYPE, mode
        if inside.startswith("home/"):
            info.uid = info.gid = 1000
        self.tar.addfile(info)

    def _link(self, inside: str, target: str) -> None:
        info = tarfile.TarInfo(inside)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(info)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_ABOUT = """
import json, os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
name = f"libpython{version}.so.1.0"
places = (sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib"),
          "/usr/lib/" + (sysconfig.get_config_var("MULTIARCH") or ""))
library = next(os.path.join(p, name) for p in places if os.path.isfile(os.path.join(p, name)))
print(json.dumps({"version": version, "base": os.path.join(sys.base_prefix, "bin", "python" + version),
                  "libpython": library, "stdlib": sysconfig.get_path("stdlib"),
                  "purelib": sysconfig.get_path("purelib")}))
"""


def _ask(python: Path) -> dict[str, str]:
    done = subprocess.run(
        [str(python), "-I", "-c", _ABOUT], capture_output=True, text=True, check=True
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer
