"""What every route for language models shares: options of layout, memory verdicts, verify cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from backends.base import BackendOptions
from backends.fields import PipelineParallel, TensorParallel
from console.checkpoints.model import Checkpoint, LanguageFacts
from console.facts import Gpu, Host, Level, UsageError, Verdict
from console.generation.answers import require_answer
from console.generation.probe import probe
from console.planning import language_memory
from console.planning.deployment import Deployment
from console.planning.language_memory import Layout, Need
from console.planning.parallelism import Spread
from console.planning.plan import TextAnswered
from console.prompts import Names, Style, TextRequest, Turn
from console.text import clean, human_bytes

Options = TypeVar("Options", bound=BackendOptions)
QUESTION = "Hello"
"""What a model is asked where the deployment names no case: any text proves that it answers."""
FAILED = "An error occurred:"
"""Beginning of the text that NeMo's and Export-Deploy's classes put in the place of an answer when the
model failed; the status is 200 all the same."""


def answered(text: str) -> str:
    """The text of an answer, cleaned; `DeckError` for an error in an answer's place."""
    require_answer(text, FAILED)
    return clean(text, multiline=True)


class LayoutOptions(BackendOptions):
    """How a model is spread over GPUs."""

    tensor_parallel_size: TensorParallel = 1
    pipeline_parallel_size: PipelineParallel = 1

    @property
    def layout(self) -> Layout:
        return Layout(self.tensor_parallel_size, self.pipeline_parallel_size)


def language(checkpoint: Checkpoint | None) -> LanguageFacts | None:
    """The transformer's facts, where the checkpoint is a language model whose geometry is known."""
    facts = checkpoint.language if checkpoint else None
    return facts if facts and facts.layers and facts.hidden_size and facts.heads else None


def layout_checks(checkpoint: Checkpoint, layout: Layout, host: Host) -> tuple[Verdict, ...]:
    """Whether the layout is possible for this checkpoint on the GPUs of this host."""
    facts = language(checkpoint)
    if facts is None:
        return (
            Verdict(
                "parallelism",
                Level.UNKNOWN,
                "the checkpoint does not tell its heads and layers",
                source=clean(checkpoint.path.name),
                fix="check the parallel sizes against the model's own documentation",
            ),
        )
    return language_memory.checks(facts, layout, len(host.gpus))


def fewest_gpus(
    host: Host, options: Callable[[int], Options], verdicts: Callable[[Options], Iterable[Verdict]]
) -> Options:
    """`options` for the fewest GPUs of this host that layout and memory allow by `verdicts`; for the
    most where none are enough, for one where there is none."""
    made = [options(size) for size in (1, 2, 4, 8, 16) if size <= max(1, len(host.gpus))]
    failing = (
        {v.check for v in verdicts(one) if v.level is Level.FAIL} & {"gpu-memory", "parallelism"}
        for one in made
    )
    return next((one for one, found in zip(made, failing, strict=True) if not found), made[-1])


def code_checks(
    checkpoint: Checkpoint,
    trusted: bool,
    untrusted: str = "transformers loads it only when it has no own",
    *,
    where: str = "",
) -> Iterator[Verdict]:
    """Whether the checkpoint brings code, and whether it will be run (`where`); `untrusted`: what is
    done with it else."""
    option = "options.trust_remote_code"
    if trusted:
        yield Verdict(
            "remote-code",
            Level.WARN,
            f"Python code from the checkpoint's folder will be run{where}",
            source=option,
            fix="read that code first, or switch it off",
            option=option,
        )
    elif any(risk.code == "remote-code" for risk in checkpoint.risks):
        yield Verdict(
            "remote-code",
            Level.WARN,
            f"the checkpoint brings Python code; {untrusted}",
            source="auto_map in config.json",
            fix="set trust_remote_code when you have read that code and the load asks for it",
            option=option,
        )


def spread(
    checkpoint: Checkpoint, layout: Layout, need: Need | None, *, fraction: float, length: int = 0
) -> Spread | None:
    """How the model lies on its GPUs; `length` 0 takes the model's own limit."""
    facts = language(checkpoint)
    if facts is None or need is None:
        return None
    return Spread(facts, layout, need, fraction, length or facts.max_positions)


def style_of(checkpoint: Checkpoint) -> Style:
    """Conversations where the tokenizer has a template for them."""
    facts = checkpoint.language
    return Style.CHAT if facts is not None and facts.chat_template else Style.COMPLETION


def memory_checks(
    need: Need, gpus: tuple[Gpu, ...], layout: Layout, *, fraction: float, length: int
) -> Iterator[Verdict]:
    """Whether weights and one sequence of `length` tokens fit each GPU that is used, `fraction` of
    whose memory the engine may take; and how many tokens its cache will hold."""
    used = gpus[: layout.a_node]
    if not used:
        return
    smallest = min(used, key=lambda gpu: gpu.memory_total)
    budget = int(smallest.memory_total * fraction)
    tokens = need.tokens(budget)
    said = f"{human_bytes(need.fixed)} before the first token, {human_bytes(budget)} allowed"
    option = "options.tensor_parallel_size"
    if need.fixed > budget:
        yield Verdict(
            "gpu-memory",
            Level.FAIL,
            f"the model does not fit GPU {smallest.index} ({clean(smallest.name)})",
            said,
            need.source,
            _more(need, budget, layout),
            option,
        )
    elif length and tokens < length:
        yield Verdict(
            "gpu-memory",
            Level.FAIL,
            f"one sequence of {length} tokens does not fit the cache",
            f"{tokens} tokens fit",
            need.source,
            f"allow at most {tokens} tokens, or use more GPUs",
            option,
        )
    else:
        each = f" ({tokens / length:.0f} sequences of {length})" if length else ""
        yield Verdict(
            "gpu-memory",
            Level.PASS,
            f"the cache will hold some {tokens:,} tokens on each GPU{each}",
            said,
            need.source,
        )
    busy = [gpu for gpu in used if gpu.memory_total - gpu.memory_used < budget]
    for gpu in busy:
        yield Verdict(
            "gpu-free",
            Level.FAIL,
            f"GPU {gpu.index} has less free memory than the engine will take",
            f"{human_bytes(gpu.memory_total - gpu.memory_used)} free, {human_bytes(budget)} wanted",
            "NVML",
            "stop what uses it, take another GPU, or lower the fraction",
            option,
        )


def _more(need: Need, budget: int, layout: Layout) -> str:
    """How many GPUs would do, in words."""
    room = budget - need.activations - need.context
    if room <= 0:
        return "allow the engine more of the GPU's memory"
    wanted = layout.tensor
    while need.weights * layout.tensor / wanted > room and wanted < 1024:
        wanted *= 2
    return f"use a tensor parallel size of {wanted}, a quantised checkpoint, or larger GPUs"


def memory_figure(need: Need) -> str:
    """Weights and cache on one GPU, for a note of the plan."""
    return (
        f"each GPU: {human_bytes(need.weights)} of weights, {need.cache_a_token:,} B of cache a "
        f"token ({need.source})"
    )


def cases(
    deployment: Deployment, model: str, style: Style, names: Names | None = None
) -> tuple[TextAnswered, ...]:
    """The deployment's verify cases as requests for text; one of our own where it names none.

    A case may set ``max_tokens`` and ``style`` (``chat`` or ``completion``) in its fields. Raises
    `UsageError` for a case that is no text.
    """
    found = []
    for number, case in enumerate(deployment.verify):
        where = f"verify[{number}]"
        unknown = sorted(set(case.fields) - {"max_tokens", "style"})
        if not case.text or case.input or unknown:
            raise UsageError(
                f"{where}: a language model is verified with a text",
                why=f"there is no field {clean(unknown[0])}" if unknown else "text must be given",
                fix='text = "What is the color of a banana?", expect = "yellow"',
            )
        asked = _request(model, case.text, _style(case.fields, style, where), names)
        limit = token_limit(case.fields, "max_tokens", 64, 100_000, where)
        title = f"“{case.text}” → “{case.expect}”" if case.expect else f"“{case.text}”"
        found.append(
            probe(_limited(asked, limit), clean(title), case.expect, _patience(deployment))
        )
    if found:
        return tuple(found)
    asked = _limited(_request(model, QUESTION, style, names), 8)
    return (probe(asked, f"“{QUESTION}” is answered", "", _patience(deployment)),)


def _patience(deployment: Deployment) -> float:
    """The first request may compile kernels; it gets as long as a load."""
    return max(120.0, deployment.server.load_timeout)


def _request(model: str, text: str, style: Style, names: Names | None) -> TextRequest:
    return TextRequest(
        model=model, turns=(Turn("user", text),), style=style, names=names or Names()
    )


def _limited(asked: TextRequest, limit: int) -> TextRequest:
    return replace(asked, max_tokens=limit)


def _style(fields: dict[str, str], style: Style, where: str) -> Style:
    word = fields.get("style", style.value)
    if word not in (Style.CHAT, Style.COMPLETION, style):
        raise UsageError(f"{where}.fields.style is chat or completion", why=clean(word))
    return Style(word)


def token_limit(fields: Mapping[str, str], key: str, usual: int, most: int, where: str) -> int:
    """The longest answer that a verify case asks for by its field `key`; raises `UsageError`."""
    text = fields.get(key, str(usual))
    if not text.isdigit() or not 0 < int(text) <= most:
        raise UsageError(f"{where}.fields.{key} is 1 to {most} tokens", why=clean(text))
    return int(text)
