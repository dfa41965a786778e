"""Where a plan's command runs: its argv, its environment and its folder, ready for `exec`.

The child's environment is an allow-list. What an operator's shell happens to export (tokens, a
PYTHONPATH, a proxy's password under a name of its own) reaches no build step and no server unless
the plan asks for it by name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from console.facts import DeckError, UsageError
from console.text import clean

if TYPE_CHECKING:
    from console.planning.plan import Command
    from console.settings import Settings

PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"),
        *("LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
        *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
        "NEMO_CACHE_DIR",
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
"""Variables that every child gets when they are set here."""

PASSED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_")

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ENVIRONMENT = "environment:"
"""Prefix of a `Command.runtime` that names a managed environment."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that `exec` needs. `argv[0]` is an absolute path; `env` is complete."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    stop_seconds: float = 0.0
    """Seconds that ending it takes at most, where it needs more than a process does."""
    contained: bool = False
    """It follows a container, which outlives it: `keeper.Request.leave`."""


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The part of `environ` that any child may see, with Python's output unbuffered.

    PYTHONPATH and PYTHONHOME never pass: they would put one environment's modules into another's.
    """
    env = {k: v for k, v in environ.items() if k in PASSED or k.startswith(PASSED_PREFIXES)}
    env.setdefault("PATH", DEFAULT_PATH)
    env["PYTHONUNBUFFERED"] = "1"
    return env


def variable_of(environment: str) -> str:
    """The plan variable that holds an environment's folder: ``nemo`` → ``env_nemo``."""
    return f"env_{environment.replace('-', '_')}"


def enter(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """`env` with the environment at `folder` entered, as its ``activate`` script would do it."""
    return {**env, "PATH": f"{folder / 'bin'}:{env['PATH']}", "VIRTUAL_ENV": str(folder)}


def launch(
    command: Command,
    values: Mapping[str, str],
    settings: Settings,
    environ: Mapping[str, str] = os.environ,
) -> Launch:
    """Fill in `command` for this host.

    `values` are the plan's variables; with ``environment:<name>`` they must hold the environment's
    folder. Raises `UsageError` for an unknown runtime and `DeckError` when the environment or the
    program is not there.
    """
    from console.planning.variables import expand

    env = child_environment(environ)
    if command.runtime.startswith(ENVIRONMENT):
        env = enter(env, _environment_folder(command.runtime, values))
    elif command.runtime != "host":
        raise UsageError(f"no such runtime: {clean(command.runtime)}")
    env.update({name: expand(value, values) for name, value in command.env.items()})
    # By name: the value goes from our environment to the child's and is written nowhere.
    env.update({name: environ[name] for name in command.secrets if name in environ})
    argv = tuple(expand(word, values) for word in command.argv)
    cwd = Path(expand(command.cwd, values))
    return Launch((_program(argv[0], env["PATH"], cwd), *argv[1:]), env, cwd)


def _environment_folder(runtime: str, values: Mapping[str, str]) -> Path:
    name = runtime.removeprefix(ENVIRONMENT)
    place = values.get(variable_of(name), "")
    if not place:
        raise UsageError(f"the plan has no environment {clean(name)}")
    folder = Path(place)
    if not (folder / "bin" / "python").exists():
        raise DeckError(
            f"the environment {clean(name)} is not there",
            why=f"no bin/python in {clean(place)}",
            fix="run the deployment again: the environment is created by its first steps",
        )
    return folder


def _program(word: str, path: str, cwd: Path) -> str:
    """The program as an absolute path, looked up on the child's own PATH and never on ours."""
    found = shutil.which(str(cwd / word) if "/" in word else word, path=path)
    if found is None:
        raise DeckError(
            f"cannot run {clean(word)}",
            why="there is no such program, or it is not executable",
            fix="check the PATH that tritondeck was started with",
        )
    return str(Path(found).absolute())
