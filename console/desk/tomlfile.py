"""Writing a deployment into its TOML file without losing what the operator wrote around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Table

from console import storage
from console.facts import DeckError, UsageError
from console.planning.deployment import at_home
from console.text import clean

if TYPE_CHECKING:
    from tomlkit.container import Container
    from tomlkit.toml_document import TOMLDocument

    from console.planning.deployment import Deployment


def render(deployment: Deployment, existing: str = "", folder: Path | None = None) -> str:
    """The deployment as TOML.

    With `existing` text its comments, order and spelling stay wherever a value did not change;
    a relative path (to `folder`) stays relative while it means the same file. Keys that are gone
    from the deployment are removed, defaults are not added.
    """
    document = tomlkit.parse(existing) if existing.strip() else tomlkit.document()
    every = deployment.model_dump(mode="json", exclude_none=True)
    chosen = deployment.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    chosen = {"version": deployment.version, **chosen}
    # Options are the backend's: what is written is what was chosen, never our idea of a default.
    every["options"] = {k: v for k, v in every["options"].items() if v is not None}
    if "options" in chosen:
        chosen["options"] = every["options"]
    for key in ("environments", "verify"):
        if not every[key]:
            every.pop(key)
    _merge(document, every, chosen, folder)
    return tomlkit.dumps(document)


def _merge(
    into: TOMLDocument | Container | Table | InlineTable,
    every: Mapping[str, Any],
    chosen: Mapping[str, Any],
    folder: Path | None,
) -> None:
    for key in [key for key in into if key not in every]:
        del into[key]
    for key, value in every.items():
        present = into.get(key)
        if present is None:
            if key in chosen:
                into[key] = _item(chosen[key])
        elif isinstance(value, Mapping) and isinstance(present, Table | InlineTable):
            _merge(present, value, chosen.get(key, value), folder)
        elif isinstance(present, AoT) and isinstance(value, list) and len(present) == len(value):
            for table, entry in zip(present, value, strict=True):
                _merge(table, entry, {k: v for k, v in entry.items() if v not in ("", {})}, folder)
        elif not _same(present, value, folder):
            into[key] = _item(value)


def _item(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        tables = tomlkit.aot()
        for entry in value:
            tables.append(tomlkit.item({k: v for k, v in entry.items() if v not in ("", {})}))
        return tables
    return tomlkit.item(value)


def _same(present: Any, value: Any, folder: Path | None) -> bool:
    plain = present.unwrap() if hasattr(present, "unwrap") else present
    if isinstance(present, Array):
        return bool(plain == value)
    if plain == value and type(plain) is type(value):
        return True
    return (
        folder is not None
        and isinstance(plain, str)
        and isinstance(value, str)
        and value.startswith("/")
        and str((folder / at_home(Path(plain))).absolute()) == value
    )


def write(deployment: Deployment, file: Path) -> None:
    """Write atomically with mode 0600 (an existing file keeps its mode)."""
    existing, mode = "", 0o600
    shown = clean(str(file))
    try:
        if file.exists():
            existing = file.read_text(encoding="utf-8")
            mode = file.stat().st_mode & 0o777
        text = render(deployment, existing, file.parent.absolute())
    except (UnicodeDecodeError, TOMLKitError) as error:
        raise UsageError(
            f"{shown} is not valid TOML, so it is not overwritten",
            why=clean(str(error)),
            fix="repair or move it, then save again",
        ) from error
    except OSError as error:
        raise _unwritten(shown, error) from error
    put(file, text, mode)


def put(file: Path, text: str, mode: int) -> None:
    """Write a whole deployment file or nothing."""
    try:
        storage.write_private(file, text.encode(), mode)
    except OSError as error:
        raise _unwritten(clean(str(file)), error) from error


def _unwritten(shown: str, error: OSError) -> DeckError:
    return DeckError(
        f"cannot write the deployment file {shown}",
        why=error.strerror or str(error),
        fix="free some space or choose another folder",
    )
