"""Compare TensorRT's version in the header of built plans with the one that was planned.

Runs in any Python from 3.10 on, imports nothing of tritondeck. The header: bytes 0 to 3 are ``ftrt``,
24 to 27 major, minor, patch and build (`sampleEngines.cpp` of TensorRT 8.6 to 11.1).
Exit codes: 0 all plans fit, 1 one does not (the last line says why), 2 wrong usage.
"""

import argparse
import json
import sys
from pathlib import Path

HEADER = 28


def version(plan):
    """``10.5.0.18`` of a plan; empty for another file."""
    with plan.open("rb") as stream:
        head = stream.read(HEADER)
    if len(head) < HEADER or not head.startswith(b"ftrt"):
        return ""
    return ".".join(str(part) for part in head[24:28])


def fits(found, wanted, compatible):
    """Whether a server of TensorRT `wanted` loads a plan of `found`: the same numbers as far as both
    tell; with version compatibility the same major version, and no newer one."""
    one, two = [[int(part) for part in text.split(".")] for text in (found, wanted)]
    if compatible:
        return one[0] == two[0] and one[:2] <= two[:2]
    return all(a == b for a, b in zip(one, two, strict=False))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, action="append", required=True)
    parser.add_argument("--wanted", default="", help="TensorRT of the server, if known")
    parser.add_argument("--compatible", action="store_true")
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args(argv)
    found = {}
    for plan in options.plan:
        got = version(plan)
        if not got:
            print("[tritondeck] error: %s is no TensorRT plan" % plan, file=sys.stderr)
            return 1
        if options.wanted and not fits(got, options.wanted, options.compatible):
            print(
                "[tritondeck] error: %s was built by TensorRT %s, the server has %s: build it in the "
                "image that serves it" % (plan.name, got, options.wanted),
                file=sys.stderr,
            )
            return 1
        found[plan.name] = {"tensorrt": got, "bytes": plan.stat().st_size}
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(
        json.dumps({"plans": found, "tensorrt": max(one["tensorrt"] for one in found.values())})
        + "\n",
        encoding="utf-8",
    )
    for name, facts in found.items():
        print("[tritondeck] progress 1.00 %s: TensorRT %s" % (name, facts["tensorrt"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
