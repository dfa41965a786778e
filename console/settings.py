"""Settings: one optional TOML file, environment variables above it, XDG folders below.

`Settings` is made once by the command line (or a test) and passed down; nothing reads the
environment behind its back.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast

from console.facts import UsageError
from console.text import clean

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where things live. `TRITONDECK_HOME` puts everything under one folder (tests, shared boxes)."""

    config: Path
    state: Path
    cache: Path
    placed_environments: Path | None = None
    """Managed environments elsewhere (a shared or larger disk)."""

    @property
    def settings_file(self) -> Path:
        return self.config / "settings.toml"

    @property
    def deployments(self) -> Path:
        return self.state / "deployments"

    @property
    def runs(self) -> Path:
        return self.state / "runs"

    @property
    def services(self) -> Path:
        return self.state / "services"

    @property
    def work(self) -> Path:
        """One folder a deployment: what its steps make, kept from run to run."""
        return self.state / "work"

    @property
    def crashes(self) -> Path:
        return self.state / "crashes"

    @property
    def environments(self) -> Path:
        return self.placed_environments or self.cache / "environments"


class Section:
    """A table of the settings file; a key that it does not have is wrong."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


class Between:
    """Bounds of a number, for whoever validates it."""

    def __init__(self, low: float, high: float | None = None) -> None:
        self.low = low
        self.high = high

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        high = {} if self.high is None else {"le": self.high}
        return {**handler(source), "ge": self.low, **high}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSettings(Section):
    """Where managed environments get their packages. Empty means: as pip is set up on this host."""

    index_url: str = ""
    """Replaces pip's default index."""
    extra_index_urls: tuple[str, ...] = ()
    """Indexes asked beside it."""
    torch_index_url: str = ""
    """Index for torch alone (the CPU or a CUDA wheel index)."""
    proxy: str = ""
    """Proxy for pip, as a URL; pip's own settings when empty."""
    wheelhouse: str = ""
    """A folder of wheels; with `offline` the only source (air-gapped boxes)."""
    offline: bool = False
    """Ask no index: `wheelhouse` is all there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenSettings(Section):
    """How the console looks and how often it looks."""

    theme: str = "tritondeck-dark"
    """Name of a Textual theme."""
    interval: Annotated[float, Between(0.25, 10)] = 1.0
    """Seconds between samples of GPU and host figures."""
    keymap: dict[str, str] = field(default_factory=dict)
    """Binding id to keys, as Textual's keymap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings(Section):
    """What happens when a run ends that took long enough to have been left alone."""

    after: Annotated[float, Between(0)] = 60.0
    """Seconds that the run must have taken."""
    bell: bool = True
    """Ring the bell of the terminal that follows the run."""
    osc9: bool = True
    """Send the terminal that follows the run a desktop notification (OSC 9)."""
    command: tuple[str, ...] = ()
    """A program and its arguments that the run's own process starts, whoever watches. It finds
    `TRITONDECK_RUN`, `TRITONDECK_RUN_STATE`, `TRITONDECK_RUN_DEPLOYMENT`, `TRITONDECK_RUN_SECONDS`
    and `TRITONDECK_RUN_ERROR` in its environment and is ended after 30 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings(Section):
    """What is kept of the figures of runs and services."""

    enabled: bool = True
    """Record GPUs, host, processes and servers of every run and service of ours."""
    interval: Annotated[float, Between(0.25, 10)] = 2.0
    """Seconds between samples of a service (a run is sampled every second)."""
    megabytes: Annotated[int, Between(1, 65536)] = 64
    """Size of one recording above which its oldest part goes, in MiB."""
    days: Annotated[float, Between(0.01, 3650)] = 14.0
    """Age above which a part of a recording goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile(Section):
    """What a new deployment starts with, over what its backend suggests: sections of a deployment
    file, checked when a deployment is drafted with them."""

    server: dict[str, Any] = field(default_factory=dict)
    """Keys of a deployment's `[server]`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the backend; those that it does not have are left out."""
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    """Environment to its `python` or `use`, as in a deployment's `[environments]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Section):
    """Everything that is set once for this operator."""

    folders: Folders
    packages: PackageSettings = PackageSettings()
    screen: ScreenSettings = ScreenSettings()
    notify: NotifySettings = NotifySettings()
    record: RecordSettings = RecordSettings()
    profiles: dict[str, Profile] = field(default_factory=dict)
    """Named sets of decisions for new deployments."""
    profile: str = ""
    """Profile of new deployments where none is named; none when empty."""
    python: str = ""
    """Interpreter for managed environments; the console's own when empty."""
    readonly: bool = False
    """Refuse whatever would change something."""


def folders(environ: Mapping[str, str] = os.environ) -> Folders:
    """XDG folders, or everything under ``TRITONDECK_HOME``."""
    if home := environ.get("TRITONDECK_HOME"):
        base = Path(home).expanduser().absolute()
        return Folders(base / "config", base / "state", base / "cache")
    user = Path(environ.get("HOME") or Path.home())

    def base_folder(variable: str, default: str) -> Path:
        value = environ.get(variable, "")
        # The XDG specification: a relative value is invalid and ignored.
        return Path(value) if value.startswith("/") else user / default

    return Folders(
        base_folder("XDG_CONFIG_HOME", ".config") / "tritondeck",
        base_folder("XDG_STATE_HOME", ".local/state") / "tritondeck",
        base_folder("XDG_CACHE_HOME", ".cache") / "tritondeck",
    )


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings file where there is one; environment variables win.

    ``TRITONDECK_THEME``, ``TRITONDECK_PYTHON``, ``TRITONDECK_WHEELHOUSE``, ``TRITONDECK_READONLY``,
    ``TRITONDECK_PROFILE``, ``TRITONDECK_ENVIRONMENTS`` (folder of the managed environments).
    Raises `UsageError` naming file, key and line.
    """
    where = folders(environ)
    if place := environ.get("TRITONDECK_ENVIRONMENTS"):
        where = replace(where, placed_environments=Path(place).absolute())
    raw: dict[str, object] = {}
    text = ""
    path = where.settings_file
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
            raw = tomllib.loads(text)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(
                f"cannot read settings {clean(str(path))}", why=clean(str(error))
            ) from error
    for variable, keys in _VARIABLES.items():
        if value := environ.get(variable):
            section = raw
            for key in keys[:-1]:
                inner = section.setdefault(key, {})
                section = inner if isinstance(inner, dict) else {}  # told below as a wrong value
            section[keys[-1]] = value
    return made({**raw, "folders": where}, text)


def made(given: Mapping[str, Any], text: str = "") -> Settings:
    """Settings from what a file, or another process of ours, says; `folders` is made already.

    `text` is the file's, for the lines of what is wrong. Raises `UsageError`.
    """
    if plain := _at_face_value(Settings, given):
        return plain
    from pydantic import TypeAdapter, ValidationError

    from console.tomllines import problems

    try:
        return TypeAdapter(Settings).validate_python(given)
    except ValidationError as error:
        raise UsageError(
            f"wrong settings in {clean(str(given['folders'].settings_file))}",
            why="; ".join(problems(error, text)),
            fix="docs/settings.md lists every setting",
        ) from error


def _at_face_value(kind: type[T], given: Mapping[str, object]) -> T | None:
    """The settings where each value is of exactly its field's type, None where that is not for sure.

    Makes no difference but to the clock: pydantic takes as long to import as the first screen to
    draw, and most settings files only name a theme.
    """
    sections = {"packages": PackageSettings, "screen": ScreenSettings, "notify": NotifySettings}
    exact = {"str": str, "bool": bool, "Folders": Folders}
    types = {item.name: exact.get(str(item.type)) for item in fields(cast(Any, kind))}
    values: dict[str, object] = {}
    for name, value in given.items():
        if name in sections and kind is Settings and isinstance(value, dict):
            value = _at_face_value(sections[name], value)
        elif type(value) is not types.get(name):
            return None
        if value is None:
            return None
        values[name] = value
    return kind(**values)


_VARIABLES: dict[str, tuple[str, ...]] = {
    "TRITONDECK_THEME": ("screen", "theme"),
    "TRITONDECK_PYTHON": ("python",),
    "TRITONDECK_WHEELHOUSE": ("packages", "wheelhouse"),
    "TRITONDECK_READONLY": ("readonly",),
    "TRITONDECK_PROFILE": ("profile",),
}


def private_folder(path: Path) -> Path:
    """Create `path` with mode 0700 and return it.

    Refuses a folder of another user, and one whose parent others may write to without the sticky
    bit: a run's files could be swapped under us. Raises `DeckError`'s `UsageError`.
    """
    try:
        # One by one: `parents=True` would make the ones above with the umask's mode.
        for folder in (*reversed(path.parents), path):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(exist_ok=True)
        info = path.stat()
    except OSError as error:
        raise UsageError(
            f"cannot create the folder {clean(str(path))}",
            why=error.strerror or str(error),
            fix="set TRITONDECK_HOME to a folder you can write to",
        ) from error
    if info.st_uid != os.geteuid():
        raise UsageError(
            f"the folder {clean(str(path))} belongs to user id {info.st_uid}, not to you",
            fix="set TRITONDECK_HOME to a folder of your own",
        )
    parent = path.parent.stat()
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise UsageError(
            f"anybody may replace {clean(str(path))}: its parent is world-writable",
            fix=f"chmod o-w {clean(str(path.parent))}",
        )
    if stat.S_IMODE(info.st_mode) != 0o700:
        path.chmod(0o700)
    return path
