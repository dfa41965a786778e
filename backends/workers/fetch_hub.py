"""Fetch a model from Hugging Face into its own cache, whole and with the right checksums.

Runs in the `hub` environment, imports nothing of tritondeck, Python 3.10 syntax. The cache is the one
that every Hugging Face tool uses (``HF_HUB_CACHE``, ``HF_HOME``), so what is there already is not
fetched again, and what is fetched here is found by others. `huggingface_hub` asks the hub and lays
the cache out; the bytes go into a partial file of ours beside it, because the library throws its own
away when it ends: a fetch that was interrupted goes on where it stopped.

A file counts only when its SHA-256 (large files) or Git object id (small ones) is the hub's. At the
end `--link` is a link to the snapshot, and the report says commit, files and bytes.

The token is HF_TOKEN, or what ``hf auth login`` left; it is never printed.
Exit codes: 0 fetched, 1 refused or failed (the last line says why), 2 wrong usage.
"""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from pathlib import Path, PurePosixPath

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

TRIES = 5
PIECE = 8 << 20
SPARE = 1 << 30  # bytes that stay free on the disk
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
OTHER_FORMS = (".h5", ".msgpack", ".ot", ".tflite", ".gguf", ".mlmodel", ".mlpackage")
SHA256 = re.compile(r"^[0-9a-f]{64}$")


class Refused(Exception):
    """The model cannot be had; the message is for the operator."""


def progress(fraction, message):
    print("[tritondeck] progress %.3f %s" % (fraction, message), flush=True)


def human(count):
    for unit, word in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return "%.1f %s" % (count / unit, word)
    return "%d B" % count


# ------------------------------------------------------------------------------ what to fetch


def ask(repository, revision):
    """The hub's own list of files. Says in words why it does not give one."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = "%s/%s" % (HfApi().endpoint, repository)
    try:
        return HfApi().model_info(repository, revision=revision or None, files_metadata=True)
    except GatedRepoError as error:
        raise Refused(gated(repository, page)) from error
    except RepositoryNotFoundError as error:
        raise Refused(
            "the hub has no model %s, or it is private: check the name, or log in with a token "
            "that may read it (hf auth login, or HF_TOKEN)" % repository
        ) from error
    except RevisionNotFoundError as error:
        raise Refused("%s has no revision %s" % (repository, revision)) from error
    except HfHubHTTPError as error:
        raise Refused(answered(repository, error)) from error


def gated(repository, page):
    return (
        "%s is gated: accept its terms at %s, then log in (hf auth login, or HF_TOKEN) with an "
        "account that has them accepted" % (repository, page)
    )


def answered(repository, error):
    """What an HTTP status of the hub means."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return "the hub refuses %s with status %d: the token is wrong or lacks rights" % (
            repository,
            status,
        )
    return "the hub answered %s for %s" % (status or "nothing", repository)


def chosen(siblings):
    """Files worth fetching: one form of the weights, safetensors before pickles."""
    names = [s.rfilename for s in siblings]
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise Refused("the hub names a file outside the model: %r" % name)
    safe = any(n.endswith(".safetensors") and "/" not in n for n in names)

    def wanted(name):
        suffix = PurePosixPath(name).suffix.lower()
        first = name.split("/", 1)[0] if "/" in name else ""
        if name == ".gitattributes" or suffix in OTHER_FORMS:
            return False
        return not (safe and (suffix in PICKLES or first in ("original", "onnx", "openvino")))

    return [s for s in siblings if wanted(s.rfilename)]


# ------------------------------------------------------------------------------ one file


def expected(sibling):
    """The hub's checksum of a file: kind and hexadecimal digits."""
    large = getattr(sibling, "lfs", None)
    digest = getattr(large, "sha256", "") if large else ""
    if digest and SHA256.match(digest):
        return "sha256", digest
    return "git", sibling.blob_id or ""


def digest(path, kind):
    """The checksum of a file as the hub counts it."""
    if kind == "sha256":
        total = hashlib.sha256()
    else:  # a Git blob: its object id covers a header too
        total = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            total.update(piece)
    return total.hexdigest()


class Fetch:
    """One repository at one commit."""

    def __init__(self, repository, info, files):
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self.repository, self.commit, self.files = repository, info.sha, files
        folder = repo_folder_name(repo_id=repository, repo_type="model")
        self.cache = Path(constants.HF_HUB_CACHE)
        self.blobs = self.cache / folder / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.total = sum(f.size or 0 for f in files)
        self.done = 0
        self.partial = None
        self.flushed = 0.0

    def seen(self):
        """Bytes that are here."""
        with contextlib.suppress(OSError, AttributeError):  # moved into its place just now
            return self.done + self.partial.stat().st_size
        return self.done

    def check_room(self):
        there = sum(p.stat().st_size for p in self.blobs.iterdir() if p.is_file())
        free = shutil.disk_usage(self.blobs).free
        needed = max(self.total - there, 0)
        if needed + SPARE > free:
            raise Refused(
                "the disk of %s has %s free, the rest of the model needs %s"
                % (self.cache, human(free), human(needed))
            )

    def file(self, sibling):
        """One file into the cache, checked."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        name = sibling.rfilename
        url = hf_hub_url(self.repository, name, revision=self.commit)
        facts = get_hf_file_metadata(url)
        etag = facts.etag or ""
        if not re.match(r"^[A-Za-z0-9._-]{1,200}$", etag):
            raise Refused("the hub gives no usable ETag for %s" % name)
        blob = self.blobs / etag
        if not blob.exists():
            self.bytes_of(sibling, facts, blob)
        self.check(sibling, blob, ours=False)
        hf_hub_download(self.repository, name, revision=self.commit)
        self.done += sibling.size or 0

    def bytes_of(self, sibling, facts, blob):
        """The content into a partial file, then under its own name once it is right."""
        self.partial = blob.with_name("%s.tritondeck-partial" % blob.name)
        with self.partial.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another fetch of the same file ends first
            if not blob.exists():
                self.stream(sibling, facts, file)
                file.flush()
                os.fsync(file.fileno())
                self.check(sibling, self.partial, ours=True)
                self.partial.chmod(0o644)
                self.partial.replace(blob)
        self.partial = None

    def stream(self, sibling, facts, file):
        """Append what is missing; a broken connection is taken up where it broke."""
        from huggingface_hub.errors import HTTPError

        left = TRIES
        while True:
            start = file.seek(0, os.SEEK_END)
            if sibling.size is not None and start > sibling.size:
                start = file.truncate(0)
            if start == sibling.size:
                return
            if start:
                print("going on with %s at %s" % (sibling.rfilename, human(start)), flush=True)
            try:
                self.request(facts, file, start)
                if sibling.size in (None, file.tell()):
                    return
                broken = None
            except (HTTPError, OSError) as error:
                broken = self.judged(error, file)
            file.flush()
            left = TRIES if file.tell() > start else left - 1
            if not left:
                raise Refused(
                    "the connection broke %d times in a row; what is here stays, run it again"
                    % TRIES
                ) from broken
            time.sleep((TRIES - left) * 2 + 0.2)

    def request(self, facts, file, start):
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        headers = self.headers(facts)
        if start:
            headers["Range"] = "bytes=%d-" % start
        # Not `http_get`: it hands on pieces of 10 MB, and loses one that was not complete.
        with get_session().stream(
            "GET", facts.location, headers=headers, timeout=30, follow_redirects=True
        ) as answer:
            hf_raise_for_status(answer)
            if start and answer.status_code != 206:
                file.truncate(0)
            for piece in answer.iter_bytes():
                file.write(piece)
                if time.monotonic() - self.flushed > 0.5:  # for progress, and for whoever kills us
                    self.flushed = time.monotonic()
                    file.flush()

    def judged(self, error, file):
        """What is worth another try; a refusal and a full disk are not."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 416:  # what is there does not fit: from the start
            file.truncate(0)
        elif status is not None and status < 500 and status not in (408, 429):
            raise Refused(answered(self.repository, error)) from error
        elif getattr(error, "errno", None) == errno.ENOSPC:
            raise Refused("the disk of %s is full" % self.cache) from error
        print("interrupted at %s (%s)" % (human(file.tell()), type(error).__name__), flush=True)
        return error

    def headers(self, facts):
        """With the token only for the hub itself, never for the store that it redirects to."""
        from urllib.parse import urlsplit

        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils import build_hf_headers

        same = urlsplit(facts.location).netloc == urlsplit(HfApi().endpoint).netloc
        headers = build_hf_headers(token=get_token() if same else False)
        return {**headers, "Accept-Encoding": "identity"}

    def check(self, sibling, path, ours):
        """Refuse a file whose content is not the hub's."""
        kind, right = expected(sibling)
        if digest(path, kind) == right:
            return
        if ours:
            path.unlink()
        raise Refused(
            "%s has the wrong checksum (%s)%s"
            % (
                sibling.rfilename,
                "SHA-256" if kind == "sha256" else "Git object id",
                "; it was removed, run it again" if ours else ": remove %s and run it again" % path,
            )
        )


# ------------------------------------------------------------------------------ the whole


def fetch(arguments):
    progress(0.0, "asking the hub for %s" % arguments.repository)
    info = ask(arguments.repository, arguments.revision)
    files = chosen(info.siblings or [])
    if not files:
        raise Refused("%s holds no files" % arguments.repository)
    work = Fetch(arguments.repository, info, files)
    work.check_room()
    skipped = len(info.siblings) - len(files)
    if skipped:
        print("%d file(s) of other forms are left out" % skipped, flush=True)
    with reporting(work):
        for sibling in files:
            work.file(sibling)
    snapshot = work.cache / work.blobs.parent.name / "snapshots" / work.commit
    link(snapshot, arguments.link)
    remember(work, arguments.revision or "main")
    report = {
        "repository": work.repository,
        "commit": work.commit,
        "files": len(files),
        "bytes": work.total,
        "verified": True,
        "folder": str(snapshot),
    }
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.report.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2) + "\n")
    partial.replace(arguments.report)
    progress(1.0, "fetched %s at %s" % (work.repository, work.commit[:12]))


@contextlib.contextmanager
def reporting(work):
    """A line of progress twice a second while bytes come."""
    over = threading.Event()

    def say():
        last = -1
        while not over.wait(0.5):
            here = work.seen()
            if here != last and work.total:
                last = here
                done = min(here / work.total, 1.0)
                progress(0.99 * done, "%s of %s" % (human(here), human(work.total)))

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def link(target, place):
    """Point `place` at `target`, at once."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(".%s.partial" % place.name)
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    partial.symlink_to(target)
    partial.replace(place)


def remember(work, revision):
    """The commit that a branch or tag stands for, where every Hugging Face tool looks for it."""
    if revision == work.commit:
        return
    ref = work.blobs.parent / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(work.commit)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repository", required=True, help="owner/name")
    parser.add_argument("--revision", default="", help="branch, tag or commit")
    parser.add_argument("--link", required=True, type=Path)
    parser.add_argument("--report", required=True, type=Path)
    arguments = parser.parse_args()
    from huggingface_hub.errors import HTTPError

    try:
        fetch(arguments)
    except Refused as error:
        print("error: %s" % error, flush=True)
        return 1
    except (HTTPError, OSError) as error:  # no network, a full disk
        print("error: %s: %s" % (type(error).__name__, error), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
