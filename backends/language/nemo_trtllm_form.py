"""The tensors of a TensorRT-LLM model that NeMo serves: saved requests and the prompt form.

PyTriton gives every input a batch dimension: one prompt is ``[1, 1]``. Which inputs there are differs
by generation (24.12 made one of them required without a default), so the form asks the served model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backends.language.common import FAILED, answered, token_limit
from backends.upstream import generations
from console.facts import (
    FieldKind,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    PromptField,
    TensorValue,
    UsageError,
)
from console.planning.deployment import Deployment
from console.planning.plan import Expected, Inference, SavedTensor
from console.text import clean

PROMPT, TEXT = "prompts", "outputs"
QUESTION = "Hello"
SHAPE = (1, 1)
_FLAGS = {"output_generation_logits": "nemo-24.12", "output_context_logits": "nemo-25.02"}
"""Inputs without a default, and the first generation that has them."""
_FIELDS = (
    PromptField(PROMPT, FieldKind.TEXT, "Prompt", "What the model goes on from."),
    PromptField("max_output_len", FieldKind.TEXT, "Tokens at most", "Length.", False, "64"),
    PromptField("temperature", FieldKind.TEXT, "Temperature", "1 leaves it as it is.", False),
    PromptField("top_k", FieldKind.TEXT, "Top k", "1 takes the likeliest token.", False, "1"),
    PromptField("top_p", FieldKind.TEXT, "Top p", "Empty leaves it to the server.", False),
    PromptField("random_seed", FieldKind.TEXT, "Seed", "Empty leaves it to the server.", False),
    PromptField("stop_words_list", FieldKind.TEXT, "Stop at", "A word that ends it.", False),
    PromptField("bad_words_list", FieldKind.TEXT, "Never say", "A word to leave out.", False),
    PromptField("no_repeat_ngram_size", FieldKind.TEXT, "No repeats of", "Words.", False),
    PromptField("task_id", FieldKind.TEXT, "Task", "Name of a prompt table.", False),
    PromptField("lora_uids", FieldKind.TEXT, "Adapter", "Number of a LoRA adapter.", False),
)


def flags(generation: str) -> tuple[str, ...]:
    """The inputs of `generation` that every request must give."""
    order = list(generations.catalog().generations)
    return tuple(
        name for name, first in _FLAGS.items() if order.index(first) <= order.index(generation)
    )


def cases(deployment: Deployment, generation: str, limit: int) -> tuple[Inference, ...]:
    """The deployment's verify cases; one of our own where it names none.

    A case may set ``max_output_len`` (at most `limit` tokens, which the engine was built for) and
    ``task_id`` in its fields. Raises `UsageError` for a case that is no text.
    """
    found = []
    for number, case in enumerate(deployment.verify):
        where = f"verify[{number}]"
        unknown = sorted(set(case.fields) - {"max_output_len", "task_id"})
        if not case.text or case.input or unknown:
            raise UsageError(
                f"{where}: a language model is verified with a text",
                why=f"there is no field {clean(unknown[0])}" if unknown else "text must be given",
                fix='text = "What is the color of a banana?", expect = "yellow"',
            )
        wanted = token_limit(case.fields, "max_output_len", min(64, limit), limit, where)
        title = f"“{case.text}” → “{case.expect}”" if case.expect else f"“{case.text}”"
        task = case.fields.get("task_id", "")
        found.append(_case(deployment, generation, case.text, wanted, title, case.expect, task))
    if found:
        return tuple(found)
    said = f"“{QUESTION}” is answered"
    return (_case(deployment, generation, QUESTION, min(8, limit), said, "", ""),)


def _case(
    deployment: Deployment,
    generation: str,
    text: str,
    limit: int,
    title: str,
    expect: str,
    task: str,
) -> Inference:
    tensors = [
        ("prompts", "BYTES", text),
        ("max_output_len", "INT64", limit),
        ("top_k", "INT64", 1),
    ]
    tensors += [(name, "BOOL", False) for name in flags(generation)]
    tensors += [("task_id", "BYTES", task)] if task else []
    return Inference(
        title=clean(title),
        model=deployment.served_name,
        inputs=tuple(
            SavedTensor(name=name, dtype=dtype, shape=SHAPE, values=(value,))
            for name, dtype, value in tensors
        ),
        expect=(Expected(output=TEXT, text=expect, never=FAILED),),
        timeout=max(120.0, deployment.server.load_timeout),
    )


@dataclass(frozen=True)
class TensorTextForm:
    """The form of one served model: what it declares is asked for and sent, nothing else."""

    model: ModelMetadata

    @property
    def fields(self) -> Sequence[PromptField]:
        declared = {spec.name for spec in self.model.inputs}
        return tuple(field for field in _FIELDS if field.name in declared)

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        """`UsageError` names the field that is empty or no number. Flags of extra outputs are off."""
        if not values.get(PROMPT, "").strip():
            raise UsageError("the prompt is empty", fix="type what the model is to go on from")
        asked = {field.name for field in self.fields}
        tensors: dict[str, TensorValue] = {}
        for spec in self.model.inputs:
            text = values.get(spec.name, "") if spec.name in asked else ""
            value: object
            if spec.dtype == "BOOL":
                value = False
            elif spec.name == PROMPT or (text.strip() and spec.dtype == "BYTES"):
                value = text
            elif text.strip():
                value = _number(spec.name, spec.dtype, text)
            else:
                continue
            # A name may stand twice in a configuration of PyTriton's.
            tensors[spec.name] = TensorValue(spec.name, spec.dtype, SHAPE, (value,))
        return InferenceRequest(self.model.name, tuple(tensors.values()), outputs=(TEXT,))

    def answer(self, answer: InferenceAnswer) -> str:
        """The text; `DeckError` for the error that the server answers as if it were one."""
        return answered("".join(str(v) for o in answer.outputs if o.name == TEXT for v in o.values))


def _number(name: str, dtype: str, text: str) -> float | int:
    try:
        number = float(text)
        if dtype.startswith("INT") and number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise UsageError(f"{name} is not a number", why=clean(text)) from None
    return int(number) if dtype.startswith("INT") else number


def form(model: ModelMetadata) -> TensorTextForm | None:
    """The form where the model's tensors are those of NeMo's TensorRT-LLM class; else None."""
    inputs = {spec.name for spec in model.inputs}
    outputs = {spec.name for spec in model.outputs}
    ours = {PROMPT, "max_output_len", "no_repeat_ngram_size", "lora_uids"}
    return TensorTextForm(model) if ours <= inputs and TEXT in outputs else None
