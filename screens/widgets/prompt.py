"""`PromptForm`: the fields that a prompt adapter asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Select

from console.facts import FieldKind, PromptField
from screens.phrase import Phrase, join, say
from screens.widgets.fields import TextField
from screens.widgets.flag import Flag
from screens.widgets.pathfield import PathField
from screens.widgets.words import Words

_SUFFIXES: Mapping[FieldKind, tuple[str, ...]] = {
    FieldKind.SOUND: (".wav", ".flac", ".ogg", ".mp3"),
    FieldKind.IMAGE: (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif"),
    FieldKind.VIDEO: (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif", ".webp", ".png", ".jpg"),
}


class PromptForm(Vertical):
    """One title, one field and one line of help for each."""

    DEFAULT_CSS = """
    PromptForm { height: auto; }
    PromptForm > Vertical { height: auto; margin: 0 0 1 0; }
    PromptForm .prompt-title, PromptForm .prompt-help { color: $text-dim; }
    PromptForm > Vertical:focus-within { text-style: none; }
    PromptForm > Vertical:focus-within > .prompt-title { color: $accent; }
    """
    HELP = "What this model is asked. `enter` sends it; files can be browsed for with `ctrl+f`."

    def __init__(self, fields: Iterable[PromptField]) -> None:
        super().__init__()
        self._fields = tuple(fields)
        self._inputs = {field.name: _input(field) for field in self._fields}

    def compose(self) -> ComposeResult:
        for field in self._fields:
            needed = say("" if field.required else "optional", "dim")
            with Vertical():
                yield Words(join(say(field.title), needed), classes="prompt-title")
                yield self._inputs[field.name]
                yield Words(say(field.help), classes="prompt-help")

    @property
    def values(self) -> dict[str, str]:
        """Every field's value as text; a flag is ``true`` or ``false``."""
        return {name: _value(widget) for name, widget in self._inputs.items()}

    @property
    def asked(self) -> Phrase:
        """What was filled in, in one line."""
        words = []
        for field in self._fields:
            value = _value(self._inputs[field.name])
            flag = field.kind is FieldKind.FLAG
            words.append(
                say(field.title if flag and value == "true" else "" if flag else value, "dim")
            )
        return join(*words, between=" · ")

    def focus_first(self) -> None:
        if self._fields:
            self._inputs[self._fields[0].name].focus()


def _input(field: PromptField) -> Widget:
    match field.kind:
        case FieldKind.SOUND | FieldKind.IMAGE | FieldKind.VIDEO:
            return PathField(field.default, suffixes=_SUFFIXES[field.kind])
        case FieldKind.FLAG:
            return Flag(field.default == "true")
        case FieldKind.CHOICE:
            choices = [(choice, choice) for choice in field.choices]
            known = field.default in field.choices
            chosen = field.default if known else Select.NULL
            return Select(choices, value=chosen, allow_blank=not known, compact=True)
        case _:
            return TextField(field.default)


def _value(widget: Widget) -> str:
    if isinstance(widget, Flag):
        return "true" if widget.value else "false"
    if isinstance(widget, Select):
        return "" if widget.is_blank() else str(widget.value)
    if isinstance(widget, PathField | TextField):
        return widget.value
    raise TypeError(f"no value in {type(widget).__name__}")
