"""What TensorRT-LLM is installed here, and whether it is the one that was planned for.

Runs where the server runs: standard library only, imports nothing of tritondeck, and not TensorRT-LLM
either, whose import takes half a minute and a GPU.

    trtllm_place.py --checkpoint PATH … --facts FOLDER [--expect VERSION] [--sizes TEXT]
                    [--unpack ARCHIVE FOLDER] … [--tokenizer ARCHIVE FOLDER] [--copy FROM TO]

Each fact is a file of its own in FOLDER (what an engine is bound to), so that the reason for building
again names the one that changed. `--unpack` makes a folder of a .qnemo archive (of one that is a folder
already, a link), `--tokenizer` one of the tokenizer's files in it. `--copy` brings a python model out of
the image; a file that is the same already is left alone, for Triton takes a new one for a changed model.
Exit codes: 0 it fits, 1 it does not (the line says what), 2 wrong usage.
"""

import argparse
import ctypes
import filecmp
import os
import shutil
import sys
import tarfile
from importlib import metadata
from pathlib import Path

MARK = ".tritondeck-source"
TOKENIZER = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def version(package):
    """The installed version; ``unknown`` where the package is not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def series(text):
    """``1.2`` of 1.2.1 or 1.2.0rc6: flags and templates change with it."""
    return text.split(".")[:2]


def architectures():
    """Compute capabilities of the GPUs that this process sees, each once, as the driver tells them."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = set()
    for ordinal in range(count.value):
        device, numbers = ctypes.c_int(), []
        if driver.cuDeviceGet(ctypes.byref(device), ordinal):
            continue
        for attribute in (MAJOR, MINOR):
            value = ctypes.c_int()
            driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            numbers.append(str(value.value))
        found.add(".".join(numbers))
    return sorted(found)


def write(path, text):
    """Atomically, and only where it says something new."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def copy(source, target):
    """The files of `source` into `target`; their number."""
    names = [found for found in sorted(source.rglob("*")) if found.is_file()]
    for found in names:
        if "__pycache__" in found.parts:
            continue
        place = target / found.relative_to(source)
        if place.is_file() and filecmp.cmp(found, place, shallow=False):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, place)
    return len(names)


def members(archive):
    """Names and open files of a tar, or of a folder, one after the other."""
    if archive.is_dir():
        for path in sorted(path for path in archive.rglob("*") if path.is_file()):
            with path.open("rb") as source:
                yield str(path.relative_to(archive)), source
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                with tar.extractfile(member) as source:
                    yield member.name, source


def every(name):
    """All files of an archive at their own places; `ValueError` for one that would leave the folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("it holds a file outside of itself: %s" % name)
    return name


def tokenizers(name):
    """A tokenizer's files by their plain names: NeMo puts a checksum before them."""
    base = name.rpartition("/")[2]
    return next((known for known in TOKENIZER if base == known or base.endswith("_" + known)), None)


def unpack(archive, folder, wanted):
    """The files that `wanted` gives a place below `folder`; once for each state of the archive."""
    known = archive.stat()
    state, mark = "%d %d\n" % (known.st_size, known.st_mtime_ns), folder / MARK
    if mark.is_file() and mark.read_text(encoding="utf-8") == state:
        return
    temporary = folder.with_name(folder.name + ".part")
    for old in (temporary, folder):
        remove(old)
    temporary.mkdir(parents=True)
    found = 0
    for name, source in members(archive):
        place = wanted(name)
        if place is not None:
            target = temporary / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            found += 1
    if not found:
        raise ValueError("it holds none of %s" % ", ".join(TOKENIZER))
    (temporary / MARK).write_text(state, encoding="utf-8")
    temporary.replace(folder)


def link(source, folder):
    """`folder` as a link to what is a folder already."""
    remove(folder)
    folder.symlink_to(source)


def remove(path):
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def fail(sentence):
    print(sentence, flush=True)
    return 1


def main(argv):
    parser = argparse.ArgumentParser(description="look at the TensorRT-LLM that is installed here")
    parser.add_argument("--checkpoint", action="append", required=True)
    parser.add_argument("--unpack", action="append", nargs=2, default=[], metavar=("FROM", "TO"))
    parser.add_argument("--tokenizer", action="append", nargs=2, default=[], metavar=("FROM", "TO"))
    parser.add_argument("--facts", required=True)
    parser.add_argument("--expect", default="")
    parser.add_argument("--sizes", default="")
    parser.add_argument("--copy", nargs=2, metavar=("FROM", "TO"))
    args = parser.parse_args(argv)
    here = version("tensorrt_llm")
    if here == "unknown":
        return fail(
            "TensorRT-LLM is not installed here: no package tensorrt_llm is known to Python"
        )
    if args.expect and series(here) != series(args.expect):
        return fail("TensorRT-LLM %s is here, and the plan is for %s" % (here, args.expect))
    if args.expect and here != args.expect:
        print("TensorRT-LLM %s is here, planned was %s of the same series" % (here, args.expect))
    for path in args.checkpoint:
        if not os.access(path, os.R_OK):
            return fail("%s cannot be read from here" % path)
    asked = [(*pair, every) for pair in args.unpack] + [
        (*pair, tokenizers) for pair in args.tokenizer
    ]
    for archive, folder, wanted in asked:
        try:
            if wanted is every and Path(archive).is_dir():
                link(Path(archive), Path(folder))
            else:
                unpack(Path(archive), Path(folder), wanted)
        except (OSError, ValueError, tarfile.TarError, EOFError) as error:
            what = "checkpoint" if wanted is every else "tokenizer: name a folder with one"
            return fail("%s gives no %s (%s)" % (archive, what, error))
    facts = {
        "tensorrt-llm-version": here,
        "tensorrt-version": version("tensorrt"),
        "gpu-architecture": ", ".join(architectures()) or "unknown",
        "parallel-sizes": args.sizes or "unknown",
    }
    if args.copy:
        source, target = map(Path, args.copy)
        if not source.is_dir() or not copy(source, target):
            return fail("%s has no python model of this TensorRT-LLM" % source)
    for name, value in facts.items():
        write(Path(args.facts, name), value + "\n")
    told = "TensorRT-LLM %s, TensorRT %s, GPU architecture %s" % tuple(facts.values())[:3]
    print(told, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
