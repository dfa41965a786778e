"""What the rendered script needs and a shell cannot do well: judge JSON, logs and answers.

Carried into every script as a here-document. Standard library only, Python 3.8 syntax, no import of
ours: it runs where tritondeck is not installed.

    helper.py free-port
    helper.py json FILE EXPECT          EXPECT: {"dotted.key": value | {"max": x} | {"min": x}}
    helper.py log FILE PATTERN present|absent
    helper.py infer URL SPEC [FILE...]  SPEC: {"model", "timeout", "inputs", "expect"}
    helper.py text URL SPEC             SPEC: {"path", "body", "answer", "equals", "timeout"}

Ends 0 when it holds, 1 with one line on standard error when it does not.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import socket
import struct
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def json_problem(path: str, expect: dict[str, Any]) -> str | None:
    """None, or what differs between the JSON file and the expectation."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    for key, wanted in expect.items():
        value = document
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return f"{path} has no {key}"
            value = value[part]
        if isinstance(wanted, dict):
            if "max" in wanted and not value <= wanted["max"]:
                return f"{key} is {value!r}, at most {wanted['max']!r} allowed"
            if "min" in wanted and not value >= wanted["min"]:
                return f"{key} is {value!r}, at least {wanted['min']!r} needed"
        elif value != wanted:
            return f"{key} is {value!r}, expected {wanted!r}"
    return None


def raw_tensor(dtype: str, path: str, shape: list[int]) -> tuple[bytes, list[int]]:
    """The bytes of one tensor read from a file, as Triton's binary extension wants them, and its
    shape: the file's own where -1 stands in `shape`."""
    content = Path(path).read_bytes()
    if dtype == "BYTES":
        return struct.pack("<I", len(content)) + content, shape
    if content[:6] != b"\x93NUMPY":
        raise ValueError(f"{path} is not an .npy file")
    width, form = (2, "<H") if content[6] == 1 else (4, "<I")
    (length,) = struct.unpack(form, content[8 : 8 + width])
    start = 8 + width + length
    if -1 in shape:
        shape = list(ast.literal_eval(content[8 + width : start].decode("latin-1"))["shape"])
    return content[start:], shape


def token_header() -> dict[str, str]:
    """The line ``NAME: VALUE`` of the file that HEADER_FILE names: a server of somebody else's
    wants its token with every request."""
    place = os.environ.get("HEADER_FILE")
    name, _, value = (
        Path(place).read_text(encoding="ascii").partition(":") if place else ("", "", "")
    )
    return {name: value.strip()} if name else {}


def infer(
    url: str, spec: dict[str, Any], files: list[str]
) -> dict[str, tuple[list[int], list[Any]]]:
    """Send the request; returns the answer's outputs as name to (shape, flat values)."""
    inputs, payload = [], b""
    for tensor in spec["inputs"]:
        entry = {"name": tensor["name"], "datatype": tensor["dtype"], "shape": tensor["shape"]}
        if tensor.get("file") is None:
            entry["data"] = tensor["values"]
        else:
            path = files[tensor["file"]]
            raw, entry["shape"] = raw_tensor(tensor["dtype"], path, tensor["shape"])
            entry["parameters"] = {"binary_data_size": len(raw)}
            payload += raw
        inputs.append(entry)
    header = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(
        f"{url}/v2/models/{spec['model']}/infer",
        data=header + payload,
        headers={"Inference-Header-Content-Length": str(len(header)), **token_header()},
    )
    document = send(request, spec["timeout"])
    return {o["name"]: (o["shape"], o["data"]) for o in document["outputs"]}


def send(request: urllib.request.Request, timeout: float) -> Any:
    """The JSON that comes back, through no proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as answer:
        return json.load(answer)


def text_problem(url: str, spec: dict[str, Any]) -> str | None:
    """Send a request for text; None, or how its answer differs. The text is printed."""
    request = urllib.request.Request(
        url + spec["path"],
        data=json.dumps(spec["body"]).encode(),
        headers={"Content-Type": "application/json"},
    )
    document = send(request, spec["timeout"])
    text = text_of(document, spec["answer"])
    if text is not None:
        print(text)
    return no_answer(text, spec) or wrong_text(text, spec["equals"])


def text_of(document: Any, place: str) -> str | None:
    """The text at a dotted place of an answer; None where there is nothing."""
    for part in place.split("."):
        try:
            document = document[int(part)] if isinstance(document, list) else document[part]
        except (LookupError, TypeError, ValueError):
            return None
    return str(document)


def no_answer(text: str | None, spec: dict[str, Any]) -> str | None:
    """Why a text is no answer at all, whatever was asked; else None."""
    if text is None:
        return f"the answer has no {spec['answer']}"
    never = spec.get("never")
    if never and text.strip().startswith(never):
        return f"the answer is an error: {text.strip()!r}"
    return None if text.strip() else "the answer is empty"


def wrong_text(text: str | None, equals: str) -> str | None:
    wanted, found = equals.strip(), (text or "").strip()
    return f"the answer is {found!r}, expected {wanted!r}" if wanted and found != wanted else None


def apart(path: str, values: list[Any], tolerance: float) -> str | None:
    """None, or how far the values are from those of an .npy file of float32 or float64."""
    content, _ = raw_tensor("FP32", path, [])
    wide = b"f8" in Path(path).read_bytes()[:128]
    wanted = [n for (n,) in struct.iter_unpack("<d" if wide else "<f", content)]
    if not wanted:
        return None
    if len(wanted) != len(values):
        return f"has {len(values)} values, expected {len(wanted)}"
    gap = math.dist(values, wanted)
    norm = math.hypot(*wanted) or 1.0
    if gap / norm <= tolerance:
        return None
    return f"differs from the reference by {gap / norm:.2g} of its norm"


def answer_problem(
    outputs: dict[str, tuple[list[int], list[Any]]],
    expect: list[dict[str, Any]],
    files: list[str],
) -> str | None:
    """None, or the first difference between an answer and what it must be."""
    for wanted in expect:
        name = wanted["output"]
        if name not in outputs:
            return f"the answer has no output {name}"
        shape, values = outputs[name]
        if wanted.get("shape") is not None and list(wanted["shape"]) != shape:
            return f"{name} has shape {shape}, expected {wanted['shape']}"
        if wanted.get("equals") is not None and list(wanted["equals"]) != values:
            return f"{name} is {values!r}, expected {wanted['equals']!r}"
        texts = [v.strip() for v in values if isinstance(v, str)]
        never, text = wanted.get("never"), wanted.get("text", "").strip()
        if never and any(t.startswith(never) for t in texts):
            return f"{name} is an error instead of an answer: {texts!r}"
        if text and texts != [text]:
            return f"{name} is {texts!r}, expected {text!r}"
        near = wanted.get("near")
        if near is not None:
            close = len(near) == len(values) and all(
                abs(got - number) <= wanted["tolerance"]
                for got, number in zip(values, near)  # noqa: B905 (strict= needs Python 3.10)
            )
            if not close:
                return f"{name} differs from the expected values"
        numbers = [v for v in values if isinstance(v, float)]
        if wanted.get("finite", True) and not all(math.isfinite(v) for v in numbers):
            return f"{name} holds values that are not finite"
        if wanted.get("near_file") is not None:
            problem = apart(files[wanted["near_file"]], values, wanted["tolerance"])
            if problem:
                return f"{name} {problem}"
    return None


def main(argv: list[str]) -> str | None:
    """Run one verb; returns the problem in words, or None."""
    verb, rest = argv[0], argv[1:]
    if verb == "free-port":
        print(free_port())
        return None
    if verb == "json":
        return json_problem(rest[0], json.loads(rest[1]))
    if verb == "log":
        text = Path(rest[0]).read_text(encoding="utf-8", errors="replace")
        found = re.search(rest[1], text, re.MULTILINE) is not None
        if found == (rest[2] == "present"):
            return None
        return f"the log {rest[0]} {'holds' if found else 'does not hold'} {rest[1]!r}"
    spec = json.loads(rest[1])
    try:
        if verb == "text":
            return text_problem(rest[0], spec)
        outputs = infer(rest[0], spec, rest[2:])
    except urllib.error.HTTPError as error:
        who = spec.get("model") or spec["path"]
        return f"{who} answered {error.code}: {error.read(2000).decode(errors='replace')}"
    for name, (_, values) in outputs.items():
        print(f"{name}: {' '.join(str(v) for v in values[:8])}")
    return answer_problem(outputs, spec["expect"], rest[2:])


if __name__ == "__main__":
    PROBLEM = main(sys.argv[1:])
    if PROBLEM:
        print(PROBLEM, file=sys.stderr)
        sys.exit(1)
