"""docs/routes.md from the catalogs: which generation has which route, and what takes its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from backends.language import trtllm_catalog
from backends.upstream import generations
from backends.upstream.generations import Catalog, Route
from console.triton import releases

NO_OVERRIDE = Path(__file__).parent / "no.toml"
"""The document says what the project ships, whatever the operator's own files add."""


def lines() -> Iterator[str]:
    known = generations.catalog(NO_OVERRIDE)
    yield from (
        "NeMo's and Export-Deploy's scripts for language models changed with nearly every release: a",
        "command line holds for one *generation*, which is what a container tag or an installed package",
        "carries. `tritondeck check` names the generation of the place that a deployment runs in, and says",
        "which had the route last where that one has not.",
        "",
        f"Data of {known.date}; a newer `generations.toml` in the settings folder is laid over it.",
        f"Source: {known.source}.",
        "",
        "## Route and generation",
        "",
        "*works*; *limited*: with what stands below the table; *gone*; empty: not there yet.",
        "",
    )  # fmt: skip
    yield from _matrix(known)
    yield from ("", "What is limited, from which generation on:", "")
    for name, route in known.routes.items():
        for since, words in route.but.items():
            yield f"- `{name}`, {_short(since)}: {words}."
    yield from ("", "## What takes the place of a route that is gone", "")
    yield from _table(
        ("route", "what it is", "gone since", "why", "replaced by"),
        (_replaced(known, name, route) for name, route in known.routes.items() if route.gone),
    )
    yield from ("", "## What takes each route here", "")
    yield from _table(
        ("route", "what it is", "script", "works from", "backend"),
        (
            (f"`{n}`", r.title, f"`{r.script}`", _range(r), f"`{r.backend}`" if r.backend else "-")
            for n, r in known.routes.items()
        ),
    )
    yield from ("", "## Generations", "")
    yield from _generations(known)
    yield from _without_nemo()


def _short(generation: str) -> str:
    """``nemo-24.07`` as 24.07, ``ed-0.4`` as ED 0.4."""
    family, _, number = generation.partition("-")
    return number if family == "nemo" else f"ED {number}"


def _matrix(known: Catalog) -> Iterator[str]:
    names = list(known.generations)
    yield from _table(
        ("route", *map(_short, names)),
        ((f"`{route}`", *(_cell(known, route, name) for name in names)) for route in known.routes),
    )


def _cell(known: Catalog, route: str, name: str) -> str:
    if generations.has(route, name):
        return "limited" if generations.difference(route, name) else "works"
    order = list(known.generations)
    return "gone" if order.index(name) > order.index(known.routes[route].last) else ""


def _replaced(known: Catalog, name: str, route: Route) -> tuple[str, ...]:
    order = list(known.generations)
    since = _short(order[order.index(route.last) + 1])
    return f"`{name}`", route.title, since, route.gone, route.instead


def _range(route: Route) -> str:
    return f"{_short(route.first)} to {_short(route.last)}"


def _generations(known: Catalog) -> Iterator[str]:
    yield from _table(
        ("generation", "what it is", "images", "TensorRT-LLM", "vLLM", "read from", "notes"),
        (
            (
                _short(name),
                one.title,
                " ".join(f"`{image.rpartition('/')[2]}`" for image in one.images),
                one.tensorrt_llm,
                one.vllm,
                one.ref,
                "; ".join(one.notes),
            )
            for name, one in known.generations.items()
        ),
    )


def _without_nemo() -> Iterator[str]:
    """The routes over Triton's own images, which need no script of NeMo's."""
    trtllm, known = trtllm_catalog.catalog(NO_OVERRIDE), releases.data(NO_OVERRIDE)
    yield from (
        "",
        "## Triton's images",
        "",
        "`trtllm-engine`, `trtllm-llmapi` and `vllm` served by Triton depend on the release of Triton's image",
        f"alone: `trtllm-engine` goes to {trtllm.engine_last} (later images are not known to have its Triton",
        f"backend), `trtllm-llmapi` begins with TensorRT-LLM {trtllm.llmapi_first}. `vllm` as a server of its own",
        f"and `in-framework` by our worker need none of them. Data of {trtllm.date} and {known.checked}.",
        "",
    )  # fmt: skip
    yield from _table(
        ("release", "TensorRT-LLM", "TensorRT", "`trtllm-engine`", "`trtllm-llmapi`", "vLLM", "`vllm`"),
        (_image_row(tag) for tag in sorted({*trtllm.images, *known.releases})),
    )  # fmt: skip


def _image_row(tag: str) -> tuple[str, ...]:
    trtllm, known = trtllm_catalog.catalog(NO_OVERRIDE), releases.data(NO_OVERRIDE)
    image, release = trtllm.images.get(tag), known.releases.get(tag)
    vllm = release.vllm if release else None
    numbers = trtllm_catalog.numbers
    if image is None:
        built = api = "unknown" if tag > trtllm.engine_last else ""
    else:
        built = "works" if tag <= trtllm.engine_last else "gone"
        early = numbers(image.tensorrt_llm) < numbers(trtllm.llmapi_first)
        api = "" if early else "works"
    return (
        tag,
        image.tensorrt_llm if image else "",
        image.tensorrt if image else "",
        built,
        api,
        vllm.version if vllm else "",
        "works" if vllm else "",
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
