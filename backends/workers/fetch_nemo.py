"""Fetch a pretrained model of NeMo by its name, as the .nemo file that NeMo keeps in its cache.

Runs in the `nemo` environment beside `nemo_archive.py`, imports nothing of tritondeck, Python 3.10
syntax. NeMo's classes list their pretrained models with an address each; NeMo downloads the file into
its own cache (``NEMO_CACHE_DIR``, else under ``~/.cache/torch/NeMo``), so that what is there already is
not fetched again, and what is fetched here is found by NeMo.

NVIDIA publishes no checksum beside these files. A file counts when it is a whole archive with a
configuration and weights; one that is not is downloaded once more. At the end `--link` is a link to it,
and the report says name, file, address and bytes.

Exit codes: 0 fetched, 1 refused or failed (the last line says why), 2 wrong usage.
"""

import argparse
import contextlib
import difflib
import json
import logging
import socket
import sys
import time
import warnings
from pathlib import Path

from nemo_archive import Refused, check_archive, check_versions, progress

QUIET = 60.0  # seconds without a byte after which a connection counts as broken
CLOSE = 5  # names like the wanted one that are listed


def pretrained():
    """Name, alias or both to what NeMo's speech classes list."""
    # Said on every import, about tools that this worker does not use.
    warnings.filterwarnings("ignore", message="Couldn't find ffmpeg")
    logging.getLogger("nv_one_logger").setLevel(logging.ERROR)
    import nemo.collections.asr.models  # noqa: F401 - the classes list themselves when imported
    from nemo.core import ModelPT
    from nemo.utils.model_utils import resolve_subclass_pretrained_model_info

    found = {}
    for info in resolve_subclass_pretrained_model_info(ModelPT):
        for name in (info.pretrained_model_name, *(info.aliases or ())):
            found.setdefault(name, info)
    return found


def look_up(name):
    """The entry of that name; says in words which names are like it."""
    known = pretrained()
    if name in known:
        return known[name]
    folded = {other.lower(): other for other in known}
    like = difflib.get_close_matches(name.lower(), folded, CLOSE, 0.5)
    raise Refused(
        "NeMo's lists have no pretrained model %s (they have %d)%s"
        % (
            name,
            len(known),
            "; names like it: " + ", ".join(folded[other] for other in like) if like else "",
        )
    )


class Download:
    """Takes the place of NeMo's download function, whose progress and errors nobody would see."""

    def __init__(self):
        self.told = 0.0
        self.problem = None

    def __call__(self, url, out):
        import wget

        try:
            return wget.download(url, out, bar=self.bar)
        except OSError as error:  # NeMo catches whatever it is, tries again and forgets it
            self.problem = error
            raise

    def bar(self, current, total, _width=80):
        if time.monotonic() - self.told > 0.5:
            self.told = time.monotonic()
            fraction = 0.2 + 0.75 * current / total if total > 0 else 0.2
            progress(fraction, "%.1f of %.1f MB" % (current / 1e6, max(total, 0) / 1e6))
        return ""


def download(info, refresh):
    """The file in NeMo's cache, downloaded when it is not there."""
    from nemo.utils import cloud

    ours, theirs = Download(), cloud.wget
    cloud.wget = argparse.Namespace(download=ours)
    try:
        return Path(
            info.class_.from_pretrained(
                info.pretrained_model_name, refresh_cache=refresh, return_model_file=True
            )
        )
    except (OSError, ValueError) as error:
        cause = ours.problem or error
        raise Refused(
            "%s cannot be downloaded from %s (%s: %s); on a machine without a network, give the "
            ".nemo file itself"
            % (info.pretrained_model_name, info.location, type(cause).__name__, cause)
        ) from error
    finally:
        cloud.wget = theirs


def whole(info):
    """The downloaded file, whole; a broken one of an earlier download is replaced."""
    file = download(info, refresh=False)
    try:
        check_archive(file)
    except Refused as broken:
        print("%s: %s; downloading it again" % (file, broken), flush=True)
        file = download(info, refresh=True)
        check_archive(file)
    return file


def link(target, place):
    """Point `place` at `target`, at once."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(".%s.partial" % place.name)
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    partial.symlink_to(target)
    partial.replace(place)


def fetch(arguments):
    socket.setdefaulttimeout(QUIET)
    versions = check_versions()
    progress(0.02, "importing NeMo %s, whose classes list their models" % versions["nemo_toolkit"])
    info = look_up(arguments.name)
    if not info.location.endswith(".nemo"):
        raise Refused("NeMo lists %s at %s, which is no .nemo" % (arguments.name, info.location))
    progress(0.20, "looking for %s" % info.location)
    file = whole(info)
    link(file, arguments.link)
    report = {
        "name": arguments.name,
        "file": str(file),
        "address": info.location,
        "bytes": file.stat().st_size,
        "verified": True,
    }
    partial = arguments.report.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    partial.replace(arguments.report)
    progress(1.0, "fetched %s" % arguments.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--name", required=True, help="as NeMo's classes list it")
    parser.add_argument("--link", required=True, type=Path)
    parser.add_argument("--report", required=True, type=Path)
    arguments = parser.parse_args()
    try:
        fetch(arguments)
    except (Refused, OSError) as error:
        print("error: %s" % error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
