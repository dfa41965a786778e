"""The store of a retrieval model: vectors and documents side by side, behind one interface.

A record is ``{"id", "document", "digest", "vectors": {column: float32 [dimension]}}``. `document` is
JSON, `digest` says from what the record was made. Columns are ``image``, ``text`` and ``sentence``; a
record has those that it has something for. Vectors are of length 1; a score is their product, the cosine.

A collection remembers whose vectors it holds (`spaces`: column to dimension and fingerprint of the
model). Vectors of two models cannot be compared, so another model's are refused.

A filter is a JSON object, every key of which must hold: ``{"color": "red"}`` equal, ``{"color": ["red",
"blue"]}`` one of them, ``{"year": {"gte": 2000, "lt": 2010}}`` a range of numbers.
"""

import json
import os
import stat
from pathlib import Path

COLUMNS = ("image", "text", "sentence")
RANGES = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}
MOST = 1000
"""Most records of one answer."""


class StoreError(Exception):
    """What the store cannot do, in words for the operator."""


def load(folder):
    """The settings beside a match model's source."""
    return json.loads(Path(folder, "store.json").read_text(encoding="utf-8"))


def spaces_of(folder, settings):
    """Column to dimension and fingerprint, from the reports that the exports left in `folder`."""
    found = {}
    for column, report in settings["columns"].items():
        said = json.loads(Path(folder, report).read_text(encoding="utf-8"))
        found[column] = {"dimension": said["dimension"], "fingerprint": said["fingerprint"]}
    return found


def open_store(settings, spaces):
    """The store that `settings` (`store.json`) name, for vectors of `spaces`."""
    if settings["kind"] == "qdrant":
        from qdrant import Qdrant

        return Qdrant(settings, spaces)
    from postgres import Postgres

    return Postgres(settings, spaces)


def secret(settings):
    """The password or key, from the variable or the file that is named; empty where none is."""
    if name := settings.get("password_env"):
        if name not in os.environ:
            raise StoreError("the variable %s, which holds the store's password, is not set" % name)
        return os.environ[name]
    if file := settings.get("password_file"):
        try:
            if Path(file).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StoreError("%s can be read by others: chmod 600" % file)
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise StoreError("the store's password: %s" % error) from error
    return ""


def agree(there, spaces, collection):
    """Raise `StoreError` unless a collection's spaces are those of the model at hand."""
    for column, space in spaces.items():
        known = there.get(column)
        if known != space:
            raise StoreError(
                "the collection %s holds vectors of another model (%s: %s there, %s here): take another "
                "collection, or empty this one and fill it again"
                % (collection, column, json.dumps(known), json.dumps(space))
            )


def conditions(wanted):
    """A filter as triples (key, operator, value) with operators ``eq``, ``any``, ``gte`` …"""
    if not isinstance(wanted, dict):
        raise StoreError("a filter is a JSON object")
    found = []
    for key, value in wanted.items():
        if isinstance(value, dict):
            for name, bound in value.items():
                if name not in RANGES or not _number(bound):
                    raise StoreError("a range takes gte, gt, lte and lt with numbers: %s" % key)
                found.append((key, name, bound))
        elif isinstance(value, list):
            if not value or not all(_scalar(item) for item in value):
                raise StoreError("a list of a filter holds plain values: %s" % key)
            found.append((key, "any", value))
        elif _scalar(value):
            found.append((key, "eq", value))
        else:
            raise StoreError("a filter takes plain values, lists and ranges: %s" % key)
    return found


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scalar(value):
    return isinstance(value, (str, int, float, bool))
