"""A command in an image as the words of ``docker run`` or ``podman run``; pure, and in one place.

The run fills the words in (`filled`), the script quotes them (`shell_words`), so that what is shown
is what is run. Both engines take the same words but for GPUs: docker has ``--gpus``, podman (which
takes ``--gpus`` silently and gives none) wants CDI device names. Paths go through ``--mount``, whose
value is one line of CSV; ``-v`` cannot say a colon and makes missing folders as root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from console.planning.plan import Command, Container, ImageSpec, Mount, image_variable
from console.planning.variables import expand, literal, shell_word

EngineName = Literal["docker", "podman"]

PIP_FOLDER = "/opt/tritondeck/pip"
"""Where a derived image's build finds how pip is set up."""


@dataclass(frozen=True, slots=True)
class Bind:
    """The value of ``--mount`` for a bind mount."""

    mount: Mount


@dataclass(frozen=True, slots=True)
class Gpus:
    """The words that give GPUs; they differ between the engines."""

    which: str


@dataclass(frozen=True, slots=True)
class Caller:
    """The words that run it as whoever started it, so that mounted files are its own."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The words that pass the environment: a file when it is run, ``--env`` in the script."""

    env: Mapping[str, str]
    secrets: tuple[str, ...]


Word = str | Bind | Gpus | Caller | Environment
"""A template, or something that each engine or shell says in its own way."""


def run_words(command: Command) -> tuple[Word, ...]:
    """Everything after ``docker run`` and its own options (name, labels, ``--detach``, ``--rm``)."""
    container = command.container or Container()
    words: list[Word] = ["--pull", "never"]
    words += _hardening(container)
    words += _limits(container)
    if container.network:
        words += ["--network", container.network]
    for port in container.ports:
        address = f"[{port.address}]" if ":" in port.address else port.address
        words += ["--publish", f"{literal(address)}:{port.host}:{port.container}"]
    if container.gpus:
        words.append(Gpus(container.gpus))
    for mount in container.mounts:
        words += ["--mount", Bind(mount)]
    if command.env or command.secrets:
        words.append(Environment(command.env, command.secrets))
    if container.workdir:
        words += ["--workdir", container.workdir]
    if container.entrypoint:
        words += ["--entrypoint", container.entrypoint]
    return (*words, f"${{{image_variable(command.image)}}}", *command.argv)


def _hardening(container: Container) -> list[Word]:
    words: list[Word] = ["--user", literal(container.user)] if container.user else [Caller()]
    if container.init:
        words.append("--init")
    if container.read_only:
        words.append("--read-only")
    for place in container.tmpfs:
        words += ["--tmpfs", place]
    if container.drop_capabilities:
        words += ["--cap-drop", "ALL"]
    if container.no_new_privileges:
        words += ["--security-opt", "no-new-privileges"]
    return words


def _limits(container: Container) -> list[Word]:
    words: list[Word] = ["--pids-limit", str(container.pids)]
    if container.shm_size:
        words += ["--shm-size", container.shm_size]
    if container.memory:
        words += ["--memory", container.memory, "--memory-swap", container.memory]
    if container.cpus:
        words += ["--cpus", container.cpus]
    for limit in container.ulimits:
        words += ["--ulimit", limit]
    return words


# ---------------------------------------------------------------------------- filled in


def filled(
    words: Sequence[Word],
    engine: EngineName,
    values: Mapping[str, str],
    caller: Sequence[str],
    env_file: str,
) -> list[str]:
    """The words as one argv. `caller` are the words for `Caller` (`console.runtimes` knows them);
    raises `KeyError` with the name of a variable that has no value."""
    argv: list[str] = []
    for word in words:
        match word:
            case str():
                argv.append(expand(word, values))
            case Bind(mount):
                source, target = expand(mount.source, values), expand(mount.target, values)
                argv.append(bind(source, target, mount.read_only))
            case Gpus(which):
                argv += gpu_words(engine, which)
            case Caller():
                argv += caller
            case Environment():
                argv += ["--env-file", env_file]
    return argv


def bind(source: str, target: str, read_only: bool) -> str:
    """One CSV record; a quote in a path is doubled."""
    fields = (f"source={source}", f"target={target}")
    quoted = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    return f"type=bind,{quoted}" + (",readonly" if read_only else "")


def gpu_words(engine: EngineName, which: str) -> list[str]:
    """``all``, or indices and UUIDs with commas between, as the engine wants them."""
    if engine == "podman":
        return [w for one in which.split(",") for w in ("--device", f"nvidia.com/gpu={one}")]
    # A comma separates fields of this value, so a list stands in quotes of its own.
    return ["--gpus", "all" if which == "all" else f'"device={which}"']


# ---------------------------------------------------------------------------- in a shell

SHELL_HEAD = """\
if [ -z "$ENGINE" ]; then
  if docker version >/dev/null 2>&1; then ENGINE=docker; else ENGINE=podman; fi
fi
CALLER=(--user "$(id -u):$(id -g)")
case "$ENGINE" in
  *podman*) [ "$(id -u)" = 0 ] || CALLER+=(--userns keep-id) ;;
  *) case "$("$ENGINE" info --format '{{.SecurityOptions}}' 2>&1)" in
       *name=rootless*) CALLER=(--user 0:0) ;;
     esac ;;
esac
bind() { printf 'type=bind,"source=%s","target=%s"%s' "${1//\\"/\\"\\"}" "${2//\\"/\\"\\"}" "$3"; }
gpus() { case "$ENGINE" in *podman*) GPUS=("${@:2}") ;; *) GPUS=(--gpus "$1") ;; esac; }
"""
"""Bash that `shell_words` relies on; the script's ``ENGINE`` names the engine's program."""


def shell_before(words: Sequence[Word]) -> str:
    """The line that must stand before a command with these words; empty where none must."""
    for word in words:
        if isinstance(word, Gpus):
            docker, podman = gpu_words("docker", word.which)[1], gpu_words("podman", word.which)
            return " ".join(["gpus", *(shell_word(literal(w)) for w in (docker, *podman))])
    return ""


def shell_words(words: Sequence[Word]) -> str:
    """The words for bash, each quoted; variables as ``"${NAME}"``."""
    quoted: list[str] = []
    for word in words:
        match word:
            case str():
                quoted.append(shell_word(word))
            case Bind(mount):
                last = shell_word(",readonly" if mount.read_only else "")
                quoted.append(
                    f'"$(bind {shell_word(mount.source)} {shell_word(mount.target)} {last})"'
                )
            case Gpus():
                quoted.append('"${GPUS[@]}"')
            case Caller():
                quoted.append('"${CALLER[@]}"')
            case Environment(env, secrets):
                for name, value in env.items():
                    quoted.append(f"--env {name}={shell_word(value)}")
                quoted += [f"--env {name}" for name in secrets]
    return " ".join(quoted)


# ---------------------------------------------------------------------------- derived images


def dockerfile(spec: ImageSpec) -> str:
    """How a derived image is built; its context holds ``requirements.txt`` and the folder ``pip``."""
    return (
        f"FROM {spec.base}\n"
        f"COPY pip {PIP_FOLDER}\n"
        f"COPY requirements.txt {PIP_FOLDER}/requirements.txt\n"
        f"RUN PIP_CONFIG_FILE={PIP_FOLDER}/pip.conf python3 -m pip install --no-cache-dir"
        f" --disable-pip-version-check --requirement {PIP_FOLDER}/requirements.txt\n"
    )


def huggingface_cache(source: str, target: str = "/huggingface") -> tuple[Mount, dict[str, str]]:
    """The operator's Hugging Face cache in a container: a mount, and the environment that names it.

    `source` is a template: the folder that ``HF_HOME`` names on the host.
    """
    return Mount(source=source, target=target, create=True), {"HF_HOME": target}
