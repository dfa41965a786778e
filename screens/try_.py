"""Step 7: send a sound, an image, a text or raw tensors; read the answer; copy the request."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import get_current_worker

from console.facts import (
    Answer,
    Endpoint,
    InferenceAnswer,
    ModelMetadata,
    PromptAdapter,
    TensorSpec,
)
from console.prompts import TextAnswer
from console.text import human_seconds
from screens.base import DeckScreen
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, join, lines, paragraph, say
from screens.widgets.prompt import PromptForm
from screens.widgets.words import Words

_HEARD_EVERY = 0.15
"""Seconds between two looks at an answer that is coming: each repaints its lines."""


class TryScreen(DeckScreen):
    """A model's own form on the left, its answers on the right."""

    STAGE = Stage.TRY
    AREA = "try"
    WORDS = ("tensor", "latency", "endpoint", "word times")
    HELP = (
        "Fill in the form and send it with `enter` from a field or `ctrl+s` from anywhere. Files "
        "are read here and sent as they are."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Send", id="try.send", tooltip="Send the request"),
        Binding("enter", "send", "Send", show=False, id="forward", tooltip="Send the request"),
        Binding(
            "y", "copy", "Copy as curl, Python", id="copy", tooltip="Show and copy the request"
        ),
        Binding(
            "ctrl+y",
            "copy",
            "Copy as curl, Python",
            show=False,
            id="copy.anywhere",
            tooltip="Show and copy the request, also from a text field",
        ),
        Binding("m", "model", "Next model", id="try.model", tooltip="Another model of this server"),
    ]

    class Known(Message):
        """The model's signature and the form that its adapter asks for."""

        def __init__(
            self,
            endpoint: Endpoint,
            models: tuple[str, ...],
            metadata: ModelMetadata,
            adapter: PromptAdapter,
        ) -> None:
            super().__init__()
            self.endpoint = endpoint
            self.models = models
            self.metadata = metadata
            self.adapter = adapter

    class Answered(Message):
        """The server's answer, and how it reads."""

        def __init__(self, answer: Answer, words: str) -> None:
            super().__init__()
            self.answer = answer
            self.words = words

    class Heard(Message):
        """The text of an answer that is still coming, from its beginning."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Copied(Message):
        """The request in other forms."""

        def __init__(self, curl: str, python: str) -> None:
            super().__init__()
            self.curl = curl
            self.python = python

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self._known: TryScreen.Known | None = None
        self._model = flow.option
        self._answers: list[Phrase] = []

    def body(self) -> Iterable[Widget]:
        yield Words(id="try-title", classes="title")
        with Horizontal(id="try"):
            with VerticalScroll(id="try-left", can_focus=False):
                yield Vertical(id="prompt")
                yield Words(id="signature")
            with VerticalScroll(id="try-right"):
                yield Words(id="answers")

    def on_mount(self) -> None:
        self._title(say("asking the server for its signature …", "dim"))
        self._learn(self._model)

    def _title(self, *words: Phrase) -> None:
        title = join(say("Try", "strong"), say(self._model), *words)
        self.query_one("#try-title", Words).show(title)

    # -- the model and its form

    @work(thread=True, exclusive=True, exit_on_error=False, group="learn")
    def _learn(self, model: str) -> None:
        view = self.desk.service(self.flow.service)
        health = self.desk.health(view.endpoint)
        ready = tuple(m.name for m in health.models if m.ready)
        models = ready or view.models
        # What the deployment serves comes last, after the models that it calls.
        chosen = model or next(
            (m for m in reversed(view.models) if m in models),
            models[0] if models else view.deployment,
        )
        metadata = self.desk.metadata(view.endpoint, chosen)
        adapter = self.desk.adapter(view.endpoint, metadata)
        self.tell(self.Known(view.endpoint, models, metadata, adapter))

    @on(Known)
    async def _learned(self, message: Known) -> None:
        self._known = message
        self._model = message.metadata.name
        self._title(say(message.endpoint.url, "dim"))
        holder = self.query_one("#prompt", Vertical)
        await holder.remove_children()
        form = PromptForm(message.adapter.fields)
        await holder.mount(form)
        form.focus_first()
        self.query_one("#signature", Words).show(_signature(message.metadata))
        if not self._answers:
            self._show_answers()
        self.refresh_keys()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "model":
            return self._known is not None and len(self._known.models) > 1
        return True

    def action_model(self) -> None:
        if self._known is not None:
            models = self._known.models
            place = models.index(self._model) if self._model in models else -1
            self._learn(models[(place + 1) % len(models)])

    # -- asking and answering

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_send()

    def _values(self) -> Mapping[str, str]:
        return self.query_one(PromptForm).values

    def action_send(self) -> None:
        if self._known is not None:
            self._title(say("sent, waiting …", "accent"))
            self._send(self._known, self._values())

    @work(thread=True, exclusive=True, exit_on_error=False, group="send")
    def _send(self, known: Known, values: Mapping[str, str]) -> None:
        request = known.adapter.request(values)
        stopped = get_current_worker()
        heard: list[str] = []
        told = time.monotonic()

        def listen(piece: str) -> None:
            nonlocal told
            heard.append(piece)
            if time.monotonic() - told >= _HEARD_EVERY:
                told = time.monotonic()
                self.tell(self.Heard("".join(heard)))

        answer = self.desk.infer(known.endpoint, request, listen, lambda: stopped.is_cancelled)
        if not stopped.is_cancelled:
            self.tell(self.Answered(answer, self.desk.words(known.adapter, answer)))

    @on(Heard)
    def _hearing(self, message: Heard) -> None:
        self._show_answers(lines(self.query_one(PromptForm).asked, paragraph(message.text)))

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        self._title(say(self._known.endpoint.url if self._known else "", "dim"))
        asked = self.query_one(PromptForm).asked
        self._answers.insert(0, _answer(message.answer, message.words, asked))
        del self._answers[20:]
        self._show_answers()

    def failed(self, error: BaseException, group: str) -> None:
        if group == "send":
            self._title(say("the last request failed", "bad"))
        super().failed(error, group)

    def _show_answers(self, coming: Phrase | None = None) -> None:
        there = self._answers if coming is None else [coming, *self._answers]
        said: Sequence[Phrase] = there or [
            lines(
                say("No answer yet.", "strong"),
                say("Fill in the form and press ") + say("enter", "accent") + say("."),
            )
        ]
        shown: list[Phrase] = []
        for number, phrase in enumerate(said):
            shown += [say("")] if number else []
            shown.append(phrase)
        self.query_one("#answers", Words).show(lines(*shown))

    # -- the request in other forms

    def action_copy(self) -> None:
        if self._known is not None:
            self._copy(self._known, self._values())

    @work(thread=True, exclusive=True, exit_on_error=False, group="copy")
    def _copy(self, known: Known, values: Mapping[str, str]) -> None:
        request = known.adapter.request(values)
        curl = self.desk.as_curl(known.endpoint, request)
        self.tell(self.Copied(curl, self.desk.as_python(known.endpoint, request)))

    @on(Copied)
    def _copied(self, message: Copied) -> None:
        self.show_copy("This request", ("curl", message.curl), ("Python", message.python))

    def action_back(self) -> None:
        self.go(Stage.SERVE)


def _tensor(spec: TensorSpec) -> Phrase:
    shape = "×".join("?" if size < 0 else str(size) for size in spec.shape)
    note = say("optional" if spec.optional else "", "dim")
    return join(
        say(spec.name).fit(16), say(spec.dtype, "dim").fit(6), say(shape), note, between=" "
    )


def _signature(model: ModelMetadata) -> Phrase:
    """What goes in and comes out, as the server tells it."""
    return lines(
        say("takes", "dim"),
        *(_tensor(spec) for spec in model.inputs),
        say("gives", "dim"),
        *(_tensor(spec) for spec in model.outputs),
    )


def _answer(answer: Answer, words: str, asked: Phrase) -> Phrase:
    took = f"{human_seconds(answer.latency)} · {answer.model}"
    took += f" {answer.version}" if isinstance(answer, InferenceAnswer) else _counted(answer)
    return lines(asked, paragraph(words, "strong"), say(took.rstrip(), "dim"))


def _counted(answer: TextAnswer) -> str:
    """First text, tokens and their rate, and why it ended, as far as the server tells."""
    speed = answer.tokens_a_second
    said = (
        f"first text {human_seconds(answer.first_text)}" if answer.first_text is not None else "",
        f"{answer.completion_tokens} tokens" if answer.completion_tokens is not None else "",
        f"{speed:.0f} tokens/s" if speed is not None else "",
        answer.finish_reason,
    )
    return "".join(f" · {words}" for words in said if words)
