"""Start the Triton server that the ``nvidia-pytriton`` wheel carries, in the foreground.

Runs with the interpreter of the environment that holds the wheel; standard library only, Python 3.8
or newer. It checks what the server needs, makes the backend directory, sets the environment and
becomes the server (``execve``: same process id, same output).

    python embedded_triton.py --folder STATE [--token-file FILE] -- TRITONSERVER_OPTION…
    python embedded_triton.py --check

What the server needs, each learnt from a failure without it:

* a backend directory whose ``python/`` holds the library, ``triton_python_backend_utils.py`` *and* the
  stub of this Python version (the wheel keeps the stubs elsewhere);
* this environment's ``bin`` first on PATH: the interpreter inside the stub finds its packages through
  the first ``python3`` there;
* the interpreter's own library folder first on LD_LIBRARY_PATH: the stub links plain
  ``libpython3.X.so.1.0``. Where it is missing, the load of a model never returns; where another build is
  found first, models that use multiprocessing fail;
* NumPy below 2: with a newer one models load and every inference fails or answers nothing.

Exit codes: 78 (EX_CONFIG) when the server cannot work here, with the reason and the fix on stderr;
otherwise the server's own. ``--check`` prints one JSON object: ``{"ok", "problems": [{"check",
"summary", "fix"}], "facts": {…}}`` and exits 0 or 78.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

EX_CONFIG = 78
MINIMUM_GLIBC = (2, 35)  # the wheel's tag is manylinux_2_35
RESTRICTED = "model-repository,shared-memory,trace,logging"
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap")  # Linux, WSL 2, Jetson

# Options set here unless the caller did, and only where this build of the server has them.
ENDPOINTS_NOT_USED = ("--allow-sagemaker=false", "--allow-vertex-ai=false")
WITHOUT_GPU = ("--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0")


class CannotServe(Exception):
    """The server cannot work in this environment."""

    def __init__(self, check, summary, fix):
        super().__init__(summary)
        self.check = check
        self.summary = summary
        self.fix = fix

    def as_dict(self):
        return {"check": self.check, "summary": self.summary, "fix": self.fix}


# ---------------------------------------------------------------------------- what is here


def server_folder():
    """``pytriton/tritonserver`` of this environment, without importing PyTriton."""
    spec = importlib.util.find_spec("pytriton")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "tritonserver"
        if (folder / "bin" / "tritonserver").is_file():
            return folder
    raise CannotServe(
        "embedded-server",
        f"there is no Triton server in the environment of {sys.executable}",
        "install nvidia-pytriton==0.7.0 in it",
    )


def python_version():
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def stub_file(server):
    stub = server / "python_backend_stubs" / python_version() / "triton_python_backend_stub"
    if stub.is_file():
        return stub
    present = sorted(p.name for p in (server / "python_backend_stubs").glob("3.*"))
    raise CannotServe(
        "python-stub",
        f"the embedded server has no stub for Python {python_version()}",
        "create the environment with Python " + (", ".join(present) or "3.8 to 3.12"),
    )


def library_name():
    return f"libpython{python_version()}.so.1.0"


def library_folder():
    """The folder of this interpreter's own libpython, or None when it has none of its own."""
    for place in (sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix) / "lib")):
        if place and (Path(place) / library_name()).is_file():
            return place
    return None


def server_environment():
    """The environment of the server: this one, with PATH and LD_LIBRARY_PATH put right."""
    environment = dict(os.environ)
    # Not resolved: the link in the environment's `bin`, not the interpreter it points to.
    own_bin = str(Path(sys.executable).absolute().parent)
    environment["PATH"] = _prepend(own_bin, environment.get("PATH") or os.defpath)
    libraries = library_folder()
    if libraries:
        environment["LD_LIBRARY_PATH"] = _prepend(
            str(libraries), environment.get("LD_LIBRARY_PATH", "")
        )
    environment.pop("AIP_MODE", None)  # it turns the Vertex AI endpoint on
    return environment


def _prepend(first, rest):
    others = [part for part in rest.split(os.pathsep) if part and part != first]
    return os.pathsep.join([first, *others])


# ---------------------------------------------------------------------------- checks


def loaded_libraries(program, environment):
    """What the dynamic loader would load for `program`: name to path, None where not found.

    ``LD_TRACE_LOADED_OBJECTS`` makes the loader list and exit; nothing of the program runs.
    """
    listing = subprocess.run(
        [str(program)],
        env={**environment, "LD_TRACE_LOADED_OBJECTS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        check=False,
    ).stdout.decode(errors="replace")
    found = {}
    for line in listing.splitlines():
        match = re.match(r"\s*(\S+) => (not found|\S+)", line)
        if match:
            found[match.group(1)] = None if match.group(2) == "not found" else match.group(2)
        elif "version `GLIBC" in line:
            found[line.strip()] = None
    return found


def library_version(path):
    """The version inside a libpython (``3.11.7``), or None when it cannot be asked."""
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    library.Py_GetVersion.restype = ctypes.c_char_p
    return library.Py_GetVersion().decode(errors="replace").split()[0].rstrip("+")


def check_libpython(libraries):
    """The libpython that the stub will load; `libraries` is what its loader would take."""
    names = [name for name in libraries if name.startswith("libpython")]
    if not names:
        raise CannotServe(
            "libpython", "the model loader links no libpython", "reinstall nvidia-pytriton"
        )
    path = libraries[names[0]]
    if path is None:
        raise CannotServe(
            "libpython",
            f"{names[0]} is not found: the model loader links it, and a load would wait for ever",
            libpython_fix(),
        )
    version = library_version(path)
    if version and version != platform.python_version().rstrip("+") and names[0] == library_name():
        raise CannotServe(
            "libpython",
            f"{path} is Python {version}, but the environment's is {platform.python_version()}: "
            "models that use multiprocessing would fail",
            libpython_fix(),
        )
    return path


def libpython_fix():
    base = str(Path(sys.executable).resolve())
    version = python_version()
    if base.startswith("/usr/bin/"):
        return (
            f"sudo apt install libpython{version}   "
            f"(Fedora, RHEL: sudo dnf install python{version}-libs)"
        )
    if "/.pyenv/" in base:
        return (
            "build it with the shared library: "
            f'PYTHON_CONFIGURE_OPTS="--enable-shared" pyenv install --force {platform.python_version()}'
        )
    return (
        f"use a Python {version} that has {library_name()} (Debian and Ubuntu: "
        f"apt install python{version}-venv libpython{version}), or put its folder on LD_LIBRARY_PATH"
    )


def check_numpy():
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    if not version or int(version.split(".")[0]) >= 2:
        what = f"NumPy {version} is in" if version else "there is no NumPy in"
        raise CannotServe(
            "numpy",
            f"{what} the serving environment: this server's Python backend needs NumPy below 2",
            f"{sys.executable} -m pip install 'numpy<2'",
        )
    return version


def check_glibc():
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        text = ""
    match = re.search(r"(\d+)\.(\d+)", text)
    if not match:
        raise CannotServe(
            "glibc", "this system has no GNU C library", "use Debian 12, Ubuntu 22.04 or newer"
        )
    if (int(match.group(1)), int(match.group(2))) < MINIMUM_GLIBC:
        raise CannotServe(
            "glibc",
            f"glibc {match.group(0)} is older than 2.35, which the embedded server is built for",
            "use Debian 12, Ubuntu 22.04 or newer",
        )
    return match.group(0)


def check_program(server, environment):
    """The server itself finds every library; returns the long options that this build takes."""
    program = server / "bin" / "tritonserver"
    missing = [n for n, path in loaded_libraries(program, environment).items() if path is None]
    if missing:
        raise CannotServe(
            "server-libraries",
            "the embedded server does not find " + ", ".join(missing),
            "reinstall nvidia-pytriton in this environment",
        )
    # `--help` exits with 1 and needs no GPU.
    text = subprocess.run(
        [str(program), "--help"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    ).stdout.decode(errors="replace")
    return sorted(set(re.findall(r"^\s+(--[a-z][a-z0-9-]+)", text, re.MULTILINE)))


def examine():
    """Every check; returns ``(facts, problems)`` and raises nothing for what it checks."""
    facts = {"python": platform.python_version(), "executable": sys.executable}
    problems = []
    environment = server_environment()

    def note(name, check, *arguments):
        try:
            facts[name] = check(*arguments)
        except CannotServe as problem:
            problems.append(problem)
        return facts.get(name)

    note("glibc", check_glibc)
    note("numpy", check_numpy)
    server = note("server", server_folder)
    if server is not None:
        note("options", check_program, server, environment)
        stub = note("stub", stub_file, server)
        if stub is not None:
            note("libpython", check_libpython, loaded_libraries(stub, environment))
    return facts, problems


# ---------------------------------------------------------------------------- start


def backend_directory(folder, server):
    """Make ``folder/backends`` with links to the wheel's files, and return it.

    Links, because a copy would cost 22 MB a deployment. Each is replaced atomically: another
    server of this deployment may be starting.
    """
    target = folder / "backends" / "python"
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = {path.name: path for path in (server / "backends" / "python").iterdir()}
    wanted.pop("__pycache__", None)
    wanted["triton_python_backend_stub"] = stub_file(server)
    for name, source in wanted.items():
        link = target / name
        if link.is_symlink() and link.resolve() == source.resolve():
            continue
        fresh = target / f".{name}.{os.getpid()}"
        fresh.symlink_to(source)
        fresh.replace(link)
    return folder / "backends"


def restrictions(token_file, header):
    """The options that put the token before the endpoints that change or reveal the server."""
    try:
        token = Path(token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotServe(
            "token", f"cannot read the token file: {error}", "start the service again"
        ) from error
    if not re.match(r"^[A-Za-z0-9_-]{16,}$", token):
        raise CannotServe(
            "token",
            "the token file does not hold a token of 16 or more letters, digits, '-' and '_'",
            "start the service again",
        )
    value = f"{RESTRICTED}:{header}={token}"
    return [f"--http-restricted-api={value}", f"--grpc-restricted-protocol={value}"]


def additions(accepted, given):
    """Options that this host and build call for and the caller did not set."""
    wanted = list(ENDPOINTS_NOT_USED)
    if not any(Path(device).exists() for device in GPU_DEVICES):
        wanted += WITHOUT_GPU
    taken = {option.split("=")[0] for option in given}
    return [
        option
        for option in wanted
        if option.split("=")[0] in accepted and option.split("=")[0] not in taken
    ]


def arguments():
    parser = argparse.ArgumentParser(description="Start the Triton server of nvidia-pytriton.")
    parser.add_argument("--check", action="store_true", help="print a JSON verdict and exit")
    parser.add_argument("--folder", type=Path, help="where the backend directory is made")
    parser.add_argument("--token-file", default="", help="a 0600 file that holds the token")
    parser.add_argument("--token-header", default="triton-access-token")
    parser.add_argument("options", nargs="*", help="options of tritonserver, after --")
    parsed = parser.parse_args()
    if not parsed.check and parsed.folder is None:
        parser.error("--folder is needed")
    return parsed


def main():
    parsed = arguments()
    facts, problems = examine()
    if parsed.check:
        shown = {name: v if isinstance(v, list) else str(v) for name, v in facts.items()}
        verdict = {
            "ok": not problems,
            "problems": [p.as_dict() for p in problems],
            "facts": shown,
        }
        print(json.dumps(verdict, indent=1))
        return EX_CONFIG if problems else 0
    try:
        if problems:
            raise problems[0]
        server = facts["server"]
        command = [str(server / "bin" / "tritonserver"), *parsed.options]
        command.append(f"--backend-directory={backend_directory(parsed.folder, server)}")
        command += additions(facts["options"], parsed.options)
        if parsed.token_file:
            command += restrictions(parsed.token_file, parsed.token_header)
    except CannotServe as problem:
        print(f"error: {problem.check}: {problem.summary}\nfix: {problem.fix}", file=sys.stderr)
        return EX_CONFIG
    sys.stdout.flush()
    os.execve(command[0], command, server_environment())
    raise AssertionError("execve does not return")


if __name__ == "__main__":
    sys.exit(main())
