"""A planned command line against the options that a script really has: a verdict, not a crash later.

Upstream's scripts import PyTorch and often build for minutes before argparse's siblings complain, and
some parse a flag that they never use. Everything here is a comparison of data; nothing runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from backends.upstream.generations import catalog
from backends.upstream.parsers import Option, Parser, known
from console.facts import Level, Verdict
from console.text import clean

CHECK = "upstream-flags"
_NUMBER = re.compile(r"-\d")


@dataclass(frozen=True, slots=True)
class Given:
    """One flag of a planned command line with the words after it."""

    flag: str
    values: tuple[str, ...]


def given(argv: Sequence[str]) -> tuple[Given, ...]:
    """The flags of a command line behind its script, each with its values; ``--x=y`` is one word of
    value, and a negative number is a value."""
    found: list[Given] = []
    for word in argv:
        if word.startswith("-") and word != "-" and not _NUMBER.match(word):
            flag, equals, value = word.partition("=")
            found.append(Given(flag, (value,) if equals else ()))
        elif found:
            last = found[-1]
            found[-1] = Given(last.flag, (*last.values, word))
    return tuple(found)


def compare(
    argv: Sequence[str],
    parser: Parser,
    *,
    script: str,
    source: str,
    generation: str = "",
    predicted: Parser | None = None,
) -> tuple[Verdict, ...]:
    """Every difference between `argv` (the words behind the script) and what `parser` accepts.

    `source` says where `parser` was read. With `predicted` (the catalog's form of the same script)
    changed defaults of flags that the plan leaves out are told too. One passing verdict when all
    fits.
    """
    words = given(argv)
    found = [
        *_unknown(words, parser, script, source),
        *_wrong_values(words, parser, source),
        *_missing(words, parser, source),
        *_ignored(words, script, source, generation),
        *(_changed(words, parser, predicted, source) if predicted else ()),
    ]
    if not found:
        names = sum(1 for word in words)
        fits = f"{script.rsplit('/', 1)[-1]} accepts all {names} planned flags"
        return (Verdict(CHECK, Level.PASS, fits, source=source),)
    return tuple(found)


def compare_known(argv: Sequence[str], script: str, generation: str) -> tuple[Verdict, ...]:
    """`argv` against `script` as the catalog has it; nothing where `generation` is without it."""
    parser = known(script, generation)
    if parser is None:
        return ()
    source = catalog().generations[generation].ref
    return compare(argv, parser, script=script, source=source, generation=generation)


def unused(options: BaseModel, names: Iterable[str], why: str) -> Iterator[Verdict]:
    """A warning for each of the options `names` that is not at its default and reaches nobody; `why`
    says what is done without it."""
    defaults = type(options).model_fields
    for name in names:
        if getattr(options, name) != defaults[name].default:
            yield Verdict(
                CHECK,
                Level.WARN,
                f"{name} is set and does nothing: {why}",
                fix="leave this option out",
                option=f"options.{name}",
            )


def _unknown(words: Sequence[Given], parser: Parser, script: str, source: str) -> Iterator[Verdict]:
    for word in words:
        if parser.find(word.flag) is not None:
            continue
        other = _renamed(word.flag, script, parser)
        yield Verdict(
            CHECK,
            Level.FAIL,
            f"{script.rsplit('/', 1)[-1]} has no flag {clean(word.flag)}",
            figure=f"it is called {other} here" if other else "argparse would end with exit code 2",
            source=source,
            fix="choose the generation that is installed" if other else "leave this option out",
        )


def _renamed(flag: str, script: str, parser: Parser) -> str:
    for entry in catalog().renamed:
        if entry.script == script and flag in entry.names:
            return next((n for n in entry.names if n != flag and parser.find(n)), "")
    return ""


def _wrong_values(words: Sequence[Given], parser: Parser, source: str) -> Iterator[Verdict]:
    for word in words:
        option = parser.find(word.flag)
        if option is None:
            continue
        if problem := _problem(word, option):
            place = f"line {option.line}" if option.line else ""
            yield Verdict(
                CHECK,
                Level.FAIL,
                f"{clean(word.flag)}: {problem}",
                figure=place,
                source=source,
                fix="change the option",
            )


def _problem(word: Given, option: Option) -> str:
    """What is wrong with the values of one flag, in words, or empty."""
    if option.switch:
        return f"takes no value, and {clean(word.values[0])} is given" if word.values else ""
    if not word.values and option.nargs not in ("?", "*"):
        return "needs a value"
    if len(word.values) > 1 and option.nargs in ("", "?"):
        return f"takes one value, and {len(word.values)} are given"
    for value in word.values:
        if "${" in value:
            continue  # known when the run starts
        if option.type == "bool" and value != "True":
            return f"any text counts as true, {clean(value)} as well: leave the flag out instead"
        if option.choices and value not in {str(choice) for choice in option.choices}:
            known = ", ".join(clean(str(choice)) for choice in option.choices)
            return f"{clean(value)} is not among {known}"
        if not _of_type(value, option.type):
            return f"{clean(value)} is not of type {option.type}"
    return ""


def _of_type(value: str, kind: str) -> bool:
    if kind not in ("int", "float"):
        return True
    try:
        int(value) if kind == "int" else float(value)
    except ValueError:
        return False
    return True


def _missing(words: Sequence[Given], parser: Parser, source: str) -> Iterator[Verdict]:
    said = {flag for word in words for flag in _names(parser.find(word.flag))}
    for option in parser.options:
        if option.required and option.name not in said:
            yield Verdict(
                CHECK,
                Level.FAIL,
                f"the script needs {option.name}, which the plan does not give",
                figure=f"line {option.line}" if option.line else "",
                source=source,
                fix="choose the generation that is installed",
            )


def _names(option: Option | None) -> tuple[str, ...]:
    return option.flags if option else ()


def _ignored(
    words: Sequence[Given], script: str, source: str, generation: str
) -> Iterator[Verdict]:
    for entry in catalog().ignored:
        if entry.script != script or generation not in entry.generations:
            continue
        for word in words:
            if word.flag in entry.flags:
                yield Verdict(
                    CHECK,
                    Level.WARN,
                    f"{clean(word.flag)} is accepted and does nothing: {entry.why}",
                    source=source,
                    fix="leave this option out",
                )


def _changed(
    words: Sequence[Given], parser: Parser, predicted: Parser, source: str
) -> Iterator[Verdict]:
    said = {flag for word in words for flag in _names(parser.find(word.flag))}
    for option in parser.options:
        before = predicted.find(option.name)
        if before is None or option.name in said or before.default == option.default:
            continue
        yield Verdict(
            CHECK,
            Level.WARN,
            f"{option.name} is left at its default, which is another one here",
            figure=f"{_shown(option.default)} instead of {_shown(before.default)}",
            source=source,
            fix="set the option to mean one of them",
        )


def _shown(value: Any) -> str:
    return "none" if value is None else clean(str(value))
