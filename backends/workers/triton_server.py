"""Start a Triton server in the foreground: the one of the ``nvidia-pytriton`` wheel, or any other.

Standard library only, Python 3.8 or newer. It checks what the server needs, sets the environment,
adds the options that this build has, reads the token and becomes the server (``execve``: same
process id, same output).

    python triton_server.py --folder STATE [--token-file FILE] -- TRITONSERVER_OPTION…
    python3 triton_server.py --program tritonserver [--token-file FILE] -- TRITONSERVER_OPTION…
    python3 triton_server.py --check [--program tritonserver]

Without ``--program`` it is the wheel's server: this interpreter's environment holds it, and a backend
directory is made of links. With it, the program is one on this machine or in this container, and
``--check`` tells what it is: its version and options, its Triton backends, the Python that its stub
links, and the packages of the Python that the stub would find.

What the wheel's server needs, each learnt from a failure without it:

* a backend directory whose ``python/`` holds the library, ``triton_python_backend_utils.py`` *and* the
  stub of this Python version (the wheel keeps the stubs elsewhere);
* this environment's ``bin`` first on PATH: the interpreter inside the stub finds its packages through
  the first ``python3`` there;
* the interpreter's own library folder first on LD_LIBRARY_PATH: the stub links plain
  ``libpython3.X.so.1.0``. Where it is missing, the load of a model never returns; where another build is
  found first, models that use multiprocessing fail;
* NumPy below 2: with a newer one models load and every inference fails or answers nothing.

Exit codes: 78 (EX_CONFIG) when the server cannot work here, with the reason and the fix on stderr;
otherwise the server's own. An option after ``--if-known`` is passed to servers that have it, and to no
other. ``--check`` prints one JSON object: ``{"ok", "problems": [{"check",
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
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

EX_CONFIG = 78
MINIMUM_GLIBC = (2, 35)  # the wheel's tag is manylinux_2_35
RESTRICTED = "model-repository,shared-memory,trace,logging"
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap")  # Linux, WSL 2, Jetson

INSTALLED = "/opt/tritonserver/bin/tritonserver"  # where NVIDIA's images have it

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
    """The wheel's server finds every library; returns the long options that this build takes."""
    program = server / "bin" / "tritonserver"
    missing = [n for n, path in loaded_libraries(program, environment).items() if path is None]
    if missing:
        raise CannotServe(
            "server-libraries",
            "the embedded server does not find " + ", ".join(missing),
            "reinstall nvidia-pytriton in this environment",
        )
    return known_options(help_text(program, environment))


def told_by(command, environment):
    """What a command prints on both streams, whatever it ends with."""
    return subprocess.run(
        [str(word) for word in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    ).stdout.decode(errors="replace")


def help_text(program, environment):
    return told_by([program, "--help"], environment)  # it exits with 1 and needs no GPU


def known_options(text):
    return sorted(set(re.findall(r"^\s+(--[a-z][a-z0-9-]+)", text, re.MULTILINE)))


def find_program(name, environment):
    """The server called `name`, as an absolute path."""
    found = shutil.which(name, path=environment["PATH"])
    if found is None and name == "tritonserver" and os.access(INSTALLED, os.X_OK):
        found = INSTALLED
    if found is None:
        raise CannotServe(
            "server-program",
            f"there is no program {name}",
            "install Triton, or name its program as [server] path",
        )
    return str(Path(found).absolute())


def server_version(program, environment):
    """What the server calls itself in the table that it prints before it misses its repository."""
    text = told_by([program, "--model-repository=/nonexistent/repository"], environment)
    match = re.search(r"server_version\s*\|\s*([\w.]+)", text)
    return match.group(1) if match else ""


def backend_folder(program, given, text):
    """Where this server finds Triton backends: as told, beside the program, or built in."""
    if given:
        return Path(given)
    beside = Path(program).parent.parent / "backends"
    if beside.is_dir():
        return beside
    match = re.search(r"--backend-directory.*?Default is '([^']*)'", text, re.DOTALL)
    return Path(match.group(1) if match else "/opt/tritonserver/backends")


def backends_in(folder):
    """Names of the Triton backends in a folder: a library each, or a model.py on the python one."""
    found = {"ensemble"}
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (place / f"libtriton_{place.name}.so").is_file() or (place / "model.py").is_file():
            found.add(place.name)
    return sorted(found)


def stub_python(folder, environment):
    """The Python (``3.10``) whose library the stub of the python backend links; empty without one."""
    stub = folder / "python" / "triton_python_backend_stub"
    if not stub.is_file():
        return ""
    for name in loaded_libraries(stub, environment):
        match = re.match(r"libpython(3\.\d+)\.so", name)
        if match:
            return match.group(1)
    return ""


def installed_packages():
    """Normalised distribution name to version, of the interpreter that runs this."""
    found = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), one.version)
    return dict(sorted(found.items()))


def examine_program(name, backends, whole):
    """`examine` for a server that is not the wheel's; not `whole`: what starting it takes."""
    environment = server_environment()
    facts = {"python": platform.python_version(), "executable": sys.executable}
    try:
        program = find_program(name, environment)
    except CannotServe as problem:
        return facts, [problem]
    text = help_text(program, environment)
    folder = backend_folder(program, backends, text)
    facts.update(
        program=program,
        options=known_options(text),
        backend_directory=str(folder),
    )
    if whole:
        facts.update(
            version=server_version(program, environment),
            backends=backends_in(folder),
            stub_python=stub_python(folder, environment),
            packages=installed_packages(),
        )
    if facts["options"]:
        return facts, []
    last = (text.strip().splitlines() or ["nothing"])[-1]
    return facts, [
        CannotServe("server-program", f"{program} does not run: {last}", "see what it needs: ldd")
    ]


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


def restrictions(token_file, header, groups):
    """The options that put the token before the endpoint `groups`."""
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
    value = f"{groups}:{header}={token}"
    return [f"--http-restricted-api={value}", f"--grpc-restricted-protocol={value}"]


def additions(accepted, given, wanted=()):
    """Options that this host and build call for and the caller did not set."""
    wanted = [*wanted, *ENDPOINTS_NOT_USED]
    if not any(Path(device).exists() for device in GPU_DEVICES):
        wanted += WITHOUT_GPU
    taken = {option.split("=")[0] for option in given}
    return [
        option
        for option in wanted
        if option.split("=")[0] in accepted and option.split("=")[0] not in taken
    ]


def server_command(parsed, facts):
    """The whole command line of the server, the token in it."""
    if parsed.program:
        command = [facts["program"], *parsed.options]
        command.append(f"--backend-directory={facts['backend_directory']}")
    else:
        server = facts["server"]
        command = [str(server / "bin" / "tritonserver"), *parsed.options]
        command.append(f"--backend-directory={backend_directory(parsed.folder, server)}")
    command += additions(facts["options"], parsed.options, parsed.if_known)
    if parsed.token_file:
        command += restrictions(parsed.token_file, parsed.token_header, parsed.restrict)
    return command


def arguments():
    parser = argparse.ArgumentParser(description="Start a Triton server.")
    parser.add_argument("--program", default="", help="the server; the wheel's own when left out")
    parser.add_argument("--backend-directory", default="", help="its Triton backends, elsewhere")
    parser.add_argument("--check", action="store_true", help="print a JSON verdict and exit")
    parser.add_argument("--folder", type=Path, help="where the backend directory is made")
    parser.add_argument("--token-file", default="", help="a 0600 file that holds the token")
    parser.add_argument("--token-header", default="triton-access-token")
    parser.add_argument("--restrict", default=RESTRICTED, help="endpoint groups behind the token")
    parser.add_argument("--if-known", action="append", default=[], metavar="OPTION")
    parser.add_argument("options", nargs="*", help="options of tritonserver, after --")
    parsed = parser.parse_args()
    if not parsed.check and parsed.folder is None and not parsed.program:
        parser.error("--folder or --program is needed")
    return parsed


def main():
    parsed = arguments()
    if parsed.program:
        facts, problems = examine_program(parsed.program, parsed.backend_directory, parsed.check)
    else:
        facts, problems = examine()
    if parsed.check:
        shown = {n: v if isinstance(v, (list, dict)) else str(v) for n, v in facts.items()}
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
        command = server_command(parsed, facts)
    except CannotServe as problem:
        print(f"error: {problem.check}: {problem.summary}\nfix: {problem.fix}", file=sys.stderr)
        return EX_CONFIG
    sys.stdout.flush()
    os.execve(command[0], command, server_environment())
    raise AssertionError("execve does not return")


if __name__ == "__main__":
    sys.exit(main())
