"""`OptionsForm`: the form that a backend's options declare; it knows no backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.segment import Segment
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.suggester import SuggestFromList
from textual.widgets import Input, Select

from console.desk.desk import OptionField, OptionProblem, Term
from console.facts import Verdict
from screens import states
from screens.phrase import Phrase, join, lines, rich_style, say
from screens.widgets.fields import TextField
from screens.widgets.flag import Flag
from screens.widgets.pathfield import CheckpointField, PathField
from screens.widgets.words import Words

Field = Flag | PathField | TextField | Select[str]
_LABEL = 27
"""Cells before the field."""


class OptionRow(Horizontal):
    """One option: label, field, unit, and what is wrong with it.

    Only the field is a widget: with two more for the words around it a form of forty options took
    3 MiB more.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    OptionRow { height: auto; min-height: 1; padding: 0 1; }
    OptionRow > .option-field { width: 16; margin: 0 0 0 27; }
    OptionRow > PathField.option-field { width: 66%; }
    """

    def __init__(self, option: OptionField, value: Any) -> None:
        super().__init__(id=f"option-{option.name.replace('.', '-')}")
        self.option = option
        self._input: Field = _field(option, value)
        self._input.add_class("option-field")
        self._said = self.note = _note(option)
        self._wrong = Phrase()

    def compose(self) -> ComposeResult:
        yield self._input

    @property
    def value(self) -> Any:
        """The field's value: text for everything but choices and flags."""
        if isinstance(self._input, Select):
            return "" if self._input.is_blank() else self._input.value
        return self._input.value

    def focus_field(self) -> None:
        self._input.focus()

    def turn_off(self) -> None:
        if isinstance(self._input, Flag):
            self._input.value = False

    def blame(self, message: str) -> None:
        """Say what is wrong, or with an empty message that nothing is."""
        self._wrong = say(f"✕ {message}" if message else "", "bad")
        self._tell()

    def judge(self, verdict: Verdict | None) -> None:
        """Put what is so here and now beside the field, in place of its bounds but not of what is
        wrong: the verdict may be on the last value that was right."""
        self._said = states.remark(verdict, self.option.title) if verdict else _note(self.option)
        self._tell()

    def _tell(self) -> None:
        note = self._wrong or self._said
        if note != self.note:
            self.note = note
            self.refresh(Region(0, 0, self.size.width, 1))

    # -- the words around the field

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _light(self) -> None:
        self.refresh(Region(0, 0, _LABEL, 1))

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if y:
            return Strip.blank(width, base)
        label = say(self.option.title, "accent" if self.has_focus_within else "dim")
        # Below the field lies what it covers; the note begins a cell behind it.
        field = self._input.outer_size.width
        words = label.fit(_LABEL - 1) + say(" " * (field + 2)) + self.note
        colours = self.app.theme_variables
        return Strip(
            Segment(text, rich_style(role, base, colours)) for text, role in words.fit(width).parts
        )


def _note(option: OptionField) -> Phrase:
    bounds = ""
    if option.minimum is not None and option.maximum is not None:
        bounds = f"{_number(option.minimum)} … {_number(option.maximum)}"
    elif option.minimum is not None:
        bounds = f"at least {_number(option.minimum)}"
    elif option.maximum is not None:
        bounds = f"at most {_number(option.maximum)}"
    return join(say(option.unit, "dim"), say(bounds, "dim"), between=" · ")


def _number(value: float) -> str:
    """Whole numbers whole, thousands apart: ``1 000 000``."""
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:g}"


def _field(option: OptionField, value: Any) -> Field:
    if option.kind == "bool":
        return Flag(bool(value))
    if option.kind == "choice":
        choices = [(choice or "none", choice) for choice in option.choices]
        chosen = str(value) if str(value) in option.choices else Select.NULL
        return Select(choices, value=chosen, allow_blank=chosen is Select.NULL, compact=True)
    if option.kind == "checkpoint":
        return CheckpointField(option.name.rpartition(".")[2], _as_text(value))
    if option.kind == "path":
        return PathField(_as_text(value))
    known = SuggestFromList(option.choices) if option.choices else None
    empty = "default" if value is None else ""
    return TextField(_as_text(value), placeholder=empty, suggester=known)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


class OptionsForm(VerticalScroll, can_focus=False):
    """All options by group. Posts `Changed` with every value when one of them changes."""

    HELP = (
        "The options of this route. `tab` goes to the next one, `enter` opens a list of choices; "
        "the script below follows as you type."
    )

    class Changed(Message):
        """Options were changed; `values` holds those that differ from the last such message."""

        def __init__(self, values: dict[str, Any]) -> None:
            super().__init__()
            self.values = values

        def can_replace(self, message: Message) -> bool:
            # Only by one that tells the same options: what another holds would be lost.
            return (
                isinstance(message, OptionsForm.Changed)
                and self.values.keys() <= message.values.keys()
            )

    class Focused(Message):
        """Another option has the cursor."""

        def __init__(self, option: OptionField) -> None:
            super().__init__()
            self.option = option

    def __init__(
        self,
        options: Iterable[OptionField],
        values: Mapping[str, Any],
        id: str = "options",  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._options = tuple(options)
        self._values = dict(values)
        self._known: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        group = ""
        for option in self._options:
            if option.group != group:
                group = option.group
                yield Words(say(group, "strong"), classes="option-group")
            yield OptionRow(option, self._values.get(option.name, option.default))

    def on_mount(self) -> None:
        self._known = self._all()

    def _all(self) -> dict[str, Any]:
        return {row.option.name: row.value for row in self.query(OptionRow)}

    @on(Input.Changed)
    @on(Select.Changed)
    @on(Flag.Changed)
    def _edited(self, event: Message) -> None:
        event.stop()
        now = self._all()
        changed = {name: value for name, value in now.items() if value != self._known.get(name)}
        if changed:
            self._known = now
            self.post_message(self.Changed(changed))

    @property
    def options(self) -> tuple[OptionField, ...]:
        return self._options

    @property
    def current(self) -> str:
        """Last part of the name of the option that has the cursor, empty when none has."""
        rows = (row for row in self.query(OptionRow) if row.has_focus_within)
        return next((row.option.name.rpartition(".")[2] for row in rows), "")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        row = next((n for n in event.widget.ancestors if isinstance(n, OptionRow)), None)
        if row is not None:
            self.post_message(self.Focused(row.option))

    def blame(self, problems: Iterable[OptionProblem]) -> None:
        """Show each problem at its option."""
        wrong = {problem.field: problem.message for problem in problems}
        for row in self.query(OptionRow):
            row.blame(wrong.get(row.option.name, ""))

    def judge(self, verdicts: Iterable[Verdict]) -> None:
        """Show beside each option the worst verdict on it; they come in that order."""
        worst: dict[str, Verdict] = {}
        for verdict in verdicts:
            worst.setdefault(verdict.option, verdict)
        for row in self.query(OptionRow):
            row.judge(worst.get(row.option.name))

    def turn_off(self, name: str) -> None:
        """Set a flag that was turned on back to off."""
        for row in self.query(OptionRow):
            if row.option.name == name:
                row.turn_off()

    def focus_option(self, name: str = "") -> None:
        """Put the cursor on an option, on the first one when there is no such name."""
        rows = list(self.query(OptionRow))
        row = next((r for r in rows if r.option.name == name), rows[0] if rows else None)
        if row is not None:
            row.focus_field()


def explain(
    option: OptionField, term: Term | None = None, verdicts: Iterable[Verdict] = ()
) -> Phrase:
    """Help for one option: what is so here, what it does, what its word means, its default and
    upstream flag."""
    default = "none" if option.default is None else _as_text(option.default) or "empty"
    key = option.name if "." in option.name else f"options.{option.name}"
    facts = join(
        say(f"default {default}", "dim"),
        say(f"upstream {option.flag}" if option.flag else "", "dim"),
        say(f"key {key}", "dim"),
        between=" · ",
    )
    meaning = join(say(term.name, "accent"), say(term.means.replace("`", ""))) if term else Phrase()
    here = [
        join(states.remark(v), say(v.figure, "dim"), say(v.fix, "accent"), between=" · ")
        for v in verdicts
    ]
    return lines(*(line for line in (*here, say(option.help), meaning, facts) if line))
