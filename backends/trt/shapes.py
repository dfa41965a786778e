"""The optimisation profile: the smallest, most frequent and largest shape of each input.

TensorRT needs all three for every input with an open dimension; a request outside them is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from backends.onnx_requests import graph_shape
from backends.trt.options import TensorrtOptions
from console.checkpoints.model import GraphFacts
from console.facts import Level, TensorSpec, UsageError, Verdict
from console.text import clean

CHECK = "tensorrt-shapes"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes by input, of the inputs that have an open dimension; all with the batch."""

    least: Shapes
    usual: Shapes
    most: Shapes


def parsed(specs: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Specs by name."""
    pairs = (spec.rpartition(":") for spec in specs)
    return {name: tuple(map(int, sizes.split("x"))) for name, _, sizes in pairs}


def written(shapes: Shapes) -> tuple[str, ...]:
    """Shapes as specs, in the graph's order."""
    return tuple(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def filled(graph: GraphFacts, max_batch_size: int) -> Profile:
    """What the graph suggests: a batch of one, half of the largest, the largest; other open
    dimensions at the size that a made-up request has."""
    open_inputs = [spec for spec in graph.inputs if -1 in spec.shape]

    def at(batch: int) -> dict[str, tuple[int, ...]]:
        return {spec.name: _at(spec, batch) for spec in open_inputs}

    most = max(1, max_batch_size)
    return Profile(at(1), at(max(1, most // 2)), at(most))


def _at(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    usual = graph_shape(spec)
    return (batch, *usual[1:]) if spec.shape[:1] == (-1,) else usual


def profile(graph: GraphFacts, options: TensorrtOptions) -> Profile:
    """The options' shapes over what the graph suggests."""
    suggested = filled(graph, options.max_batch_size)
    return Profile(
        {**suggested.least, **_known(graph, options.min_shapes)},
        {**suggested.usual, **_known(graph, options.opt_shapes)},
        {**suggested.most, **_known(graph, options.max_shapes)},
    )


def _known(graph: GraphFacts, specs: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Specs of inputs that are open; others would make trtexec refuse all of them."""
    names = {spec.name for spec in graph.inputs if -1 in spec.shape}
    return {name: shape for name, shape in parsed(specs).items() if name in names}


def sample_shapes(graph: GraphFacts, options: TensorrtOptions) -> Shapes:
    """The shape of every input in a request that the profile allows, with a batch of one."""
    asked = profile(graph, options)
    found = {}
    for spec in graph.inputs:
        shape = asked.usual.get(spec.name, graph_shape(spec))
        least = asked.least.get(spec.name, shape)
        found[spec.name] = (least[0], *shape[1:]) if spec.shape[:1] == (-1,) else shape
    return found


def require(graph: GraphFacts, options: TensorrtOptions) -> None:
    """Raises `UsageError` for shapes that no plan can be built with."""
    wrong = [v for v in checks(graph, options) if v.level is Level.FAIL]
    if wrong:
        raise UsageError(wrong[0].summary, why=wrong[0].figure, fix=wrong[0].fix)


def checks(graph: GraphFacts, options: TensorrtOptions) -> Iterator[Verdict]:
    """Whether the shapes are of this graph, in order, and hold the server's largest batch."""
    found = [
        *_names(graph, options),
        *_fixed(graph, options),
        *_order(graph, options),
        *_batch(graph, options),
    ]
    if found:
        yield from found
        return
    count = len(profile(graph, options).most)
    said = f"{count} input(s) with open dimensions" if count else "every dimension is fixed"
    yield Verdict(CHECK, Level.PASS, "the shapes fit the graph", said, "the graph's signature")


def _each(options: TensorrtOptions) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    for option in ("min_shapes", "opt_shapes", "max_shapes"):
        for name, shape in parsed(getattr(options, option)).items():
            yield option, name, shape


def _wrong(summary: str, figure: str, fix: str, option: str) -> Verdict:
    return Verdict(
        CHECK, Level.FAIL, summary, figure, "the graph's signature", fix, f"options.{option}"
    )


def _names(graph: GraphFacts, options: TensorrtOptions) -> Iterator[Verdict]:
    known = {spec.name for spec in graph.inputs}
    for option, name, _ in _each(options):
        if name not in known:
            have = ", ".join(clean(spec.name) for spec in graph.inputs)
            yield _wrong(
                f"the graph has no input {clean(name)}", f"it has {have}", "correct it", option
            )
    for spec in graph.inputs:
        if -1 in spec.shape and set(spec.name) & set(",=' "):
            yield _wrong(
                f"trtexec cannot be told a shape of {clean(spec.name)}",
                "a name with a comma, quote, equals sign or space",
                "rename the input in the graph",
                "max_shapes",
            )


def _fixed(graph: GraphFacts, options: TensorrtOptions) -> Iterator[Verdict]:
    specs = {spec.name: spec for spec in graph.inputs}
    for option, name, shape in _each(options):
        spec = specs.get(name)
        if spec is None:
            continue
        same = len(shape) == len(spec.shape) and all(
            graph_size in (-1, size) for graph_size, size in zip(spec.shape, shape, strict=True)
        )
        if not same:
            yield _wrong(
                f"{clean(name)} has another shape in the graph",
                f"{list(shape)}, the graph {list(spec.shape)} (-1 is open)",
                "change only open dimensions",
                option,
            )


def _order(graph: GraphFacts, options: TensorrtOptions) -> Iterator[Verdict]:
    asked = profile(graph, options)
    for name, least in asked.least.items():
        usual, most = asked.usual[name], asked.most[name]
        if len(least) == len(usual) == len(most) and not all(
            a <= b <= c for a, b, c in zip(least, usual, most, strict=True)
        ):
            yield _wrong(
                f"the shapes of {clean(name)} are not in order",
                f"{list(least)} ≤ {list(usual)} ≤ {list(most)}",
                "smallest ≤ most frequent ≤ largest in each dimension",
                "opt_shapes",
            )


def _batch(graph: GraphFacts, options: TensorrtOptions) -> Iterator[Verdict]:
    wanted = options.max_batch_size
    for name, most in profile(graph, options).most.items():
        spec = next(one for one in graph.inputs if one.name == name)
        if wanted and spec.shape[:1] == (-1,) and most[0] < wanted:
            yield _wrong(
                f"{clean(name)} is built for a batch of {most[0]}, the server may send {wanted}",
                f"{list(most)}",
                f"set max_batch_size to at most {most[0]}, or larger max_shapes",
                "max_shapes",
            )
