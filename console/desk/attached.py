"""Use case: servers that are somebody else's, known by name and watched.

They stand in ``servers.toml`` of the configuration folder, which an operator may edit too. A token is
named there (a file, or an environment variable), never written. Watching is all that is allowed unless
`control` says otherwise.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tomlkit.exceptions import TOMLKitError

from console import storage
from console.desk import readonly
from console.facts import Endpoint, Refused, UsageError
from console.planning.deployment import check_name
from console.settings import Settings, private_folder
from console.text import clean, redact
from console.tomllines import problems

if TYPE_CHECKING:
    from console.services.model import ServiceView

FILE = "servers.toml"
SCHEMES = ("http", "https", "grpc", "grpcs")


class AttachedServer(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """``http://HOST:PORT``, ``https://…``, ``grpc://HOST:PORT`` or ``grpcs://…``."""
    kind: Literal["triton", "openai"] = "triton"
    metrics_url: str = ""
    """Where its metrics are; of Triton at port 8000 the port 8002 is taken when empty."""
    ca_file: str = ""
    """PEM file of the authority that signed its certificate; the system's when empty."""
    token_file: str = ""
    """File that holds its token."""
    token_env: str = ""
    """Environment variable that holds its token."""
    token_header: str = "triton-access-token"
    """Header that carries it; ``authorization`` gets ``Bearer`` before the token."""
    control: bool = False
    """Allow loading and unloading its models from here."""
    name: Annotated[str, Field(exclude=True)] = ""

    @property
    def endpoint(self) -> Endpoint:
        file = Path(self.token_file).expanduser() if self.token_file else None
        return Endpoint(
            url=self.url,
            kind=self.kind,
            metrics_url=self.metrics_url or _usual_metrics(self),
            token_file=file,
            token_env=self.token_env,
            token_header=self.token_header,
            ca_file=Path(self.ca_file).expanduser() if self.ca_file else None,
            manage=self.control,
        )

    def headers(self) -> Mapping[str, str]:
        """The header with the token, read now; nothing where none is named. Raises `UsageError`."""
        token = ""
        if self.token_env:
            token = os.environ.get(self.token_env, "")
            if not token:
                raise UsageError(
                    f"the environment variable {clean(self.token_env)} is not set",
                    why=f"{self.name} takes its token from it",
                )
        elif self.token_file:
            try:
                token = Path(self.token_file).expanduser().read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(
                    f"cannot read the token file {clean(self.token_file)}", why=clean(str(error))
                ) from error
        if not token:
            return {}
        bearer = self.token_header.lower() == "authorization" and " " not in token
        return {self.token_header: f"Bearer {token}" if bearer else token}


def _usual_metrics(server: AttachedServer) -> str:
    parts = urlsplit(server.url)
    if server.kind == "openai" or parts.scheme not in ("http", "https") or parts.port != 8000:
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:8002"


PREFIX = "attached:"
"""Before the name of an attached server, where services are named by id."""


def as_service(settings: Settings, name: str) -> ServiceView:
    """An attached server as a service that has no folder here; `UsageError` for an unknown one."""
    from console.services.model import ServiceState, ServiceView

    for server in attached(settings):
        if server.name == name:
            nowhere = settings.folders.services / f"{PREFIX}{name}"
            return ServiceView(
                id=f"{PREFIX}{name}",
                deployment=name,
                launcher="attached" if server.kind == "triton" else f"attached {server.kind}",
                state=ServiceState.RUNNING,
                folder=nowhere,
                log=nowhere / "server.log",
                endpoint=server.endpoint,
                repository=nowhere,
                models=(),
            )
    raise UsageError(f"no server {clean(name)!r} is attached", fix="tritondeck attach adds one")


def _file(settings: Settings) -> Path:
    return settings.folders.config / FILE


def attached(settings: Settings) -> tuple[AttachedServer, ...]:
    """Every attached server by name. Raises `UsageError` naming file, key and line."""
    path = _file(settings)
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {clean(str(path))}", why=clean(str(error))) from error
    return tuple(_entry(path, text, name, value) for name, value in sorted(raw.items()))


def _entry(path: Path, text: str, name: str, value: object) -> AttachedServer:
    try:
        check_name(name)
        found = AttachedServer.model_validate(value).model_copy(update={"name": name})
    except ValidationError as error:
        raise UsageError(
            f"wrong server {clean(name)} in {clean(str(path))}",
            why="; ".join(problems(error, text)),
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{clean(name)!r} in {clean(str(path))} cannot be a server's name",
            why=clean(str(error)),
        ) from error
    return _checked(found)


def _checked(server: AttachedServer) -> AttachedServer:
    for url in (server.url, server.metrics_url):
        if not url:
            continue
        parts = urlsplit(url)
        try:
            wrong = parts.port == 0
        except ValueError:
            wrong = True
        if wrong or parts.scheme not in SCHEMES or not parts.hostname:
            raise UsageError(
                f"{clean(redact(url))} is not a server address",
                fix="write it as http://HOST:PORT, https://…, grpc://HOST:PORT or grpcs://…",
            )
        if parts.username or parts.password:
            raise UsageError(
                "a server address holds no user and no password",
                why="it is saved, shown and logged",
                fix="name the token with --token-file or --token-env",
            )
    return server


def attach(settings: Settings, server: AttachedServer) -> AttachedServer:
    """Save one more (or change the one of this name), keeping the file's comments."""
    readonly.require_writable(settings, "attach a server")
    check_name(server.name)
    _checked(server)
    document = _document(settings)
    values = server.model_dump(mode="json", exclude_defaults=True)
    table = document.get(server.name)
    if table is None:
        document[server.name] = tomlkit.item(values)
    else:
        for key in [key for key in table if key not in values]:
            del table[key]
        table.update(values)
    _write(settings, tomlkit.dumps(document))
    return server


def detach(settings: Settings, name: str) -> None:
    """Forget one; the server itself is left as it is."""
    readonly.require_writable(settings, "detach a server")
    document = _document(settings)
    if name not in document:
        known = ", ".join(server.name for server in attached(settings))
        raise UsageError(
            f"no server {clean(name)!r} is attached", why=f"attached: {known or 'none'}"
        )
    del document[name]
    _write(settings, tomlkit.dumps(document))


def _document(settings: Settings) -> tomlkit.TOMLDocument:
    attached(settings)  # a file that cannot be read is not written over
    path = _file(settings)
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except TOMLKitError as error:
        raise UsageError(f"cannot read {clean(str(path))}", why=clean(str(error))) from error


def _write(settings: Settings, text: str) -> None:
    try:
        private_folder(settings.folders.config)
        storage.write_private(_file(settings), text.encode())
    except OSError as error:
        raise storage.storage_error(error, _file(settings)) from error


def require_control(settings: Settings, endpoint: Endpoint, action: str) -> None:
    """Raise `Refused` for an attached server that may only be watched."""
    for server in attached(settings):
        if server.url.rstrip("/") == endpoint.url.rstrip("/") and not server.control:
            raise Refused(
                f"cannot {action} on {server.name}: it is only watched",
                why="an attached server is somebody else's",
                fix=f"tritondeck attach {clean(server.url)} --name {server.name} --control",
            )
