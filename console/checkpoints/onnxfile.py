"""ONNX files: the graph's signature, and whether its external data are there."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from console.checkpoints.model import Checkpoint, Format, GraphFacts, Risk, Severity
from console.checkpoints.nemo import human_count, private_file
from console.checkpoints.protobuf import Field, WireError, fields, signed, text
from console.checkpoints.source import FileSource, opened
from console.facts import TensorSpec, UsageError
from console.text import clean, human_bytes

MAX_FIELDS = 1_000_000
"""Fields that are looked at before a file is refused: a graph of 100,000 nodes has some 600,000."""

# TensorProto.DataType to Triton's names (onnx.proto3).
_DTYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "BYTES",
    9: "BOOL", 10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 16: "BF16",
}  # fmt: skip
_SHORT = {
    "FP32": "fp32",
    "FP16": "fp16",
    "BF16": "bf16",
    "FP64": "fp64",
    "INT8": "int8",
    "UINT8": "uint8",
}


@dataclass
class _Graph:
    """What the walk collects."""

    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    initialisers: set[str] = field(default_factory=set)
    elements: dict[str, int] = field(default_factory=dict)
    external: dict[str, int] = field(default_factory=dict)
    """Location to the bytes that it must at least have."""
    opset: int = 0
    ir_version: int = 0
    producer: str = ""
    domains: set[str] = field(default_factory=set)
    nodes: int = 0
    seen: int = 0


class _Walk:
    """One pass over a model's fields; weights are stepped over."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self.graph = _Graph()

    def run(self, size: int) -> _Graph:
        for item in self._fields(0, size):
            if item.number == 1:
                self.graph.ir_version = item.value
            elif item.number == 2:
                self.graph.producer = clean(text(self._source, item), cap=60)
            elif item.number == 7:
                self._graph(item)
            elif item.number == 8:
                self._opset(item)
        return self.graph

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        for item in fields(self._source, start, end):
            self.graph.seen += 1
            if self.graph.seen > MAX_FIELDS:
                raise WireError(f"more than {MAX_FIELDS} fields")
            yield item

    def _inside(self, parent: Field) -> Iterator[Field]:
        return self._fields(parent.start, parent.end) if parent.delimited else iter(())

    def _opset(self, item: Field) -> None:
        domain, version = "", 0
        for part in self._inside(item):
            if part.number == 1:
                domain = clean(text(self._source, part), cap=80)
            elif part.number == 2:
                version = part.value
        if domain in {"", "ai.onnx"}:
            self.graph.opset = version
        else:
            self.graph.domains.add(domain)

    def _graph(self, item: Field) -> None:
        for part in self._inside(item):
            if part.number == 1:
                self._node(part)
            elif part.number == 5:
                self._tensor(part)
            elif part.number == 11:
                self.graph.inputs.append(self._value(part))
            elif part.number == 12:
                self.graph.outputs.append(self._value(part))

    def _node(self, item: Field) -> None:
        """Constant nodes hold tensors too, which may lie outside."""
        self.graph.nodes += 1
        for part in self._inside(item):
            if part.number == 5:
                for attribute in self._inside(part):
                    if attribute.number == 5 and attribute.delimited:
                        self._tensor(attribute, weight=False)

    def _tensor(self, item: Field, weight: bool = True) -> None:
        name, dtype, count = "", 0, 1
        where: dict[str, str] = {}
        for part in self._inside(item):
            if part.number == 1:
                for size in self._packed(part):
                    count *= size
            elif part.number == 2:
                dtype = part.value
            elif part.number == 8:
                name = text(self._source, part)
            elif part.number == 13:
                key, value = self._entry(part)
                where[key] = value
        if "location" in where:
            end = _int(where.get("offset")) + _int(where.get("length"))
            known = self.graph.external.get(where["location"], 0)
            self.graph.external[where["location"]] = max(known, end)
        if weight:
            self.graph.initialisers.add(name)
            kind = _DTYPES.get(dtype, "")
            if kind in _SHORT and 0 <= count < 2**48:
                kind = _SHORT[kind]
                self.graph.elements[kind] = self.graph.elements.get(kind, 0) + count

    def _packed(self, item: Field) -> Iterator[int]:
        """`repeated int64`, packed or one by one."""
        if not item.delimited:
            yield signed(item.value)
            return
        position, raw = 0, self._source.read(item.start, min(item.end - item.start, 640))
        value = shift = 0
        for position in range(len(raw)):
            value |= (raw[position] & 0x7F) << shift
            shift += 7
            if raw[position] < 0x80:
                yield signed(value & (2**64 - 1))
                value = shift = 0

    def _entry(self, item: Field) -> tuple[str, str]:
        pair = {1: "", 2: ""}
        for part in self._inside(item):
            if part.number in pair:
                pair[part.number] = text(self._source, part)
        return pair[1], pair[2]

    def _value(self, item: Field) -> TensorSpec:
        """A ValueInfoProto: name 1, type 2 → tensor_type 1 → elem_type 1, shape 2 → dim 1."""
        name, dtype = "", 0
        shape: list[int] = []
        for part in self._inside(item):
            if part.number == 1:
                name = clean(text(self._source, part), cap=200)
            if part.number != 2:
                continue
            for kind in self._inside(part):
                if kind.number != 1:
                    continue  # sequences, maps and optionals: no tensor, dtype stays unknown
                for what in self._inside(kind):
                    if what.number == 1:
                        dtype = what.value
                    elif what.number == 2:
                        shape = [self._dimension(d) for d in self._inside(what) if d.number == 1]
        return TensorSpec(name, _DTYPES.get(dtype, "UNKNOWN"), tuple(shape))

    def _dimension(self, item: Field) -> int:
        for part in self._inside(item):
            if part.number == 1 and not part.delimited:
                size = signed(part.value)
                return size if size > 0 else -1
        return -1


def read(path: Path, file: FileSource, info: os.stat_result) -> Checkpoint:
    """Facts of one ONNX file. Raises `UsageError`."""
    graph = walk(path, file, info.st_size)
    inputs = tuple(i for i in graph.inputs if i.name not in graph.initialisers)
    facts = GraphFacts(
        inputs=inputs,
        outputs=tuple(graph.outputs),
        opset=graph.opset,
        ir_version=graph.ir_version,
        producer=graph.producer,
        external_data=tuple(clean(name, cap=300) for name in graph.external),
    )
    sidecars, risks = _sidecars(path.parent, graph.external)
    size = info.st_size + sidecars
    return Checkpoint(
        path=path,
        format=Format.ONNX,
        title="ONNX model" + (f" · {graph.producer}" if graph.producer else ""),
        task="image" if any(_image_like(i) for i in inputs) else "",
        size=size,
        parameters=sum(graph.elements.values()) or None,
        dtype=max(graph.elements, key=lambda d: graph.elements[d], default=""),
        graph=facts,
        risks=(*risks, *_operators(graph), *private_file(info)),
        details=tuple(_details(facts, graph, size)),
        modified=info.st_mtime,
    )


def read_folder(path: Path, file: Path) -> Checkpoint:
    """A folder that holds one graph: the same facts under the file's path."""
    with opened(file) as (source, info):
        return read(file, source, info)


def walk(path: Path, file: FileSource, size: int) -> _Graph:
    """Read the signature; raises `UsageError` for what is no ONNX model."""
    try:
        graph = _Walk(file).run(size)
    except WireError as error:
        raise UsageError(
            f"{clean(str(path))} is not an ONNX model, or is truncated",
            why=clean(str(error)),
            fix="compare its size with the original, or export it again",
        ) from error
    if not graph.outputs or not graph.ir_version:
        raise UsageError(
            f"{clean(str(path))} is not an ONNX model", why="it holds no graph with outputs"
        )
    return graph


def _int(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 20 else 0


def _sidecars(folder: Path, external: dict[str, int]) -> tuple[int, list[Risk]]:
    """Bytes of the external data, and what is wrong with them."""
    total, risks = 0, []
    for location, needed in external.items():
        shown = clean(location, cap=120)
        if posixpath.isabs(location) or ".." in location.split("/") or "\0" in location:
            risks.append(
                Risk(
                    "escaping-data",
                    Severity.DANGER,
                    f"the graph refers to data outside its folder: {shown}",
                    "do not load it unless you made it",
                )
            )
            continue
        try:
            size = (folder / location).stat().st_size
        except OSError:  # whatever the reason, the data cannot be had from here
            size = -1
        if size < max(needed, 0):
            what = (
                "is missing" if size < 0 else f"is shorter than the {needed} bytes the graph needs"
            )
            risks.append(
                Risk(
                    "missing-data",
                    Severity.DANGER,
                    f"external data file {shown} {what}",
                    "copy it into the folder of the .onnx file",
                )
            )
        total += max(size, 0)
    return total, risks


def _operators(graph: _Graph) -> Iterator[Risk]:
    foreign = sorted(graph.domains - {"ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training"})
    if foreign:
        yield Risk(
            "custom-operators",
            Severity.WARN,
            f"the graph imports operators outside ONNX: {', '.join(foreign[:3])}",
            "they need their own library at the server",
        )


def _image_like(tensor: TensorSpec) -> bool:
    """Batch, channels and two sizes, in either order of channels."""
    shape = tensor.shape
    return len(shape) == 4 and (shape[1] in {1, 3, 4} or shape[3] in {1, 3, 4})


def _details(facts: GraphFacts, graph: _Graph, size: int) -> Iterator[tuple[str, str]]:
    for label, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        for tensor in tensors[:16]:
            shape = ", ".join("any" if n < 0 else str(n) for n in tensor.shape)
            yield label, f"{tensor.name}  {tensor.dtype} [{shape}]"
    yield "opset", f"{facts.opset} (IR {facts.ir_version})"
    yield "nodes", str(graph.nodes)
    if graph.elements:
        yield "parameters", human_count(sum(graph.elements.values()))
    yield "size", human_bytes(size)
    if facts.external_data:
        yield "external data", f"{len(facts.external_data)} file(s)"
