"""What TensorRT-LLM is installed here, and whether it is the one that was planned for.

Runs where the server runs: standard library only, imports nothing of tritondeck, and not TensorRT-LLM
either, whose import takes half a minute and a GPU.

    trtllm_place.py --checkpoint PATH --facts FOLDER [--expect VERSION] [--sizes TEXT] [--copy FROM TO]

Each fact is a file of its own in FOLDER (what an engine is bound to), so that the reason for building
again names the one that changed. `--copy` brings a python model out of the image; a file that is the
same already is left alone, for Triton takes a new one for a changed model.
Exit codes: 0 it fits, 1 it does not (the line says what), 2 wrong usage.
"""

import argparse
import ctypes
import filecmp
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def version(package):
    """The installed version; ``unknown`` where the package is not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


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


def fail(sentence):
    print("[tritondeck] fail %s" % sentence, flush=True)
    return 1


def main(argv):
    parser = argparse.ArgumentParser(description="look at the TensorRT-LLM that is installed here")
    parser.add_argument("--checkpoint", required=True)
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
    if args.expect and here != args.expect:
        return fail("TensorRT-LLM %s is here, and the plan is for %s" % (here, args.expect))
    if not os.access(args.checkpoint, os.R_OK):
        return fail("%s cannot be read from here" % args.checkpoint)
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
    print("[tritondeck] pass %s" % told, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
