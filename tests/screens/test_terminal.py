"""The console in a real pseudo-terminal: what reaches it, and how it is left."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from console import settings
from console.desk.desk import Desk
from tests.screens.pseudo import Terminal

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.nemo"

POISON = r"[/] [@click=app.quit]x[/] \x1b]52;c;cHduZWQ=\x07\x1b]0;PWN\x07\x9dPWN2\x9c"


def double(home: Path, poison: str = "-", what: str = "run") -> Terminal:
    """The console on the desk double."""
    return Terminal([sys.executable, "-m", "tests.screens.terminal", str(home), poison, what])


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        terminal.close()


def opened(terminals: list[Terminal], *arguments: str, home: Path) -> Terminal:
    terminals.append(double(home, *arguments))
    terminals[-1].until(b"digits")
    terminals[-1].read(0.3)
    return terminals[-1]


def whole(terminal: Terminal) -> list[str]:
    """What the first screen of the double shows when all of it has come."""
    words = ("61/141 GiB", "● serving", "11 min 20 s", "q Leave")
    terminal.wait(lambda: all(word in "".join(terminal.shown()) for word in words))
    terminal.settle()
    return terminal.shown()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(
    terminals: list[Terminal], tmp_path: Path, number: signal.Signals
) -> None:
    terminal = opened(terminals, home=tmp_path)
    terminal.process.send_signal(number)
    assert terminal.ended() == 128 + number
    assert terminal.restored
    assert b"runs and servers go on" in terminal.output


def test_leaving_restores_the_terminal_and_says_that_runs_go_on(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, home=tmp_path)
    terminal.press(b"q")
    assert terminal.ended() == 0
    assert terminal.restored
    assert b"runs and servers go on" in terminal.output


def test_a_line_that_drops_ends_the_console(tmp_path: Path) -> None:
    terminal = double(tmp_path)
    terminal.until(b"digits")
    terminal.hang_up()
    # The signal and the end of input race; either way it ends, and soon.
    assert terminal.process.wait(60) in (1, 128 + signal.SIGHUP)


def test_a_crash_prints_one_line_and_no_locals(terminals: list[Terminal], tmp_path: Path) -> None:
    terminals.append(double(tmp_path, what="crash"))
    terminal = terminals[0]
    assert terminal.ended() == 1
    assert terminal.restored
    assert b"internal error (ZeroDivisionError)" in terminal.output
    (saved,) = (tmp_path / "state" / "crashes").iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    assert "ZeroDivisionError" in saved.read_text()
    assert "hf_ccc" not in saved.read_text() + terminal.output.decode("utf-8", "replace")


def test_no_escape_of_foreign_text_reaches_the_terminal(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, POISON, home=tmp_path)
    for keys in (b"n", b"j", b"\r", b"?", b"\x1b", b"\r", b"\x0e", b"\r", b"\t", b"?"):
        terminal.press(keys)
        terminal.read(0.5)
    assert terminal.process.poll() is None
    assert b"PWN" not in terminal.output
    # OSC 22 is Textual's own: the shape of the mouse pointer.
    assert not re.search(rb"\x1b\](?!22;)|\x1b[PX^_]", terminal.output)
    assert not re.search(rb"\xc2[\x80-\x9f]", terminal.output)


def test_a_cursor_key_costs_few_bytes(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = opened(terminals, home=tmp_path)
    whole(terminal)
    sizes = []
    for _ in range(4):
        before = len(terminal.output)
        terminal.press(b"j")
        terminal.wait(lambda before=before: len(terminal.output) > before)  # type: ignore[misc]
        terminal.settle()
        sizes.append(len(terminal.output) - before)
    assert sorted(sizes)[len(sizes) // 2] < 2000, sizes


def test_a_static_screen_sends_nothing(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = opened(terminals, home=tmp_path)
    terminal.press(b"n")
    terminal.until(b"clip.onnx")
    terminal.settle(1.5)
    before = len(terminal.output)
    terminal.read(2.5)
    assert len(terminal.output) == before, terminal.output[before:][:300]


# -- other ways out, and back


@pytest.mark.parametrize("place", ["load", "compose"])
def test_a_defect_while_starting_leaves_the_terminal_as_it_was(
    terminals: list[Terminal], tmp_path: Path, place: str
) -> None:
    terminals.append(double(tmp_path, what=place))
    assert terminals[0].ended() == 1
    assert terminals[0].restored
    assert terminals[0].output.count(b"internal error (ZeroDivisionError)") == 1
    assert len(list((tmp_path / "state" / "crashes").iterdir())) == 1


def test_a_defect_behind_a_key_leaves_the_terminal_as_it_was(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, "-", "key", home=tmp_path)
    terminal.press(b"d")
    assert terminal.ended() == 1
    assert terminal.restored
    assert b"internal error (ZeroDivisionError)" in terminal.output


def test_a_stopped_console_gives_the_terminal_back_and_draws_all_of_it_again(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, home=tmp_path)
    before = whole(terminal)
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.wait(lambda: terminal.stopped)
    terminal.settle()
    assert terminal.restored
    again = len(terminal.output)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.wait(lambda: b"\x1b[?1049h" in terminal.output[again:])
    terminal.wait(lambda: terminal.shown(again) == before)
    terminal.press(b"q")
    assert terminal.ended() == 0
    assert terminal.restored


def test_an_editor_gets_the_terminal_as_it_was_and_gives_it_back(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    done = tmp_path / "done"
    editor = tmp_path / "editor"
    wait = f"until [ -e {done} ]; do sleep 0.05; done"
    editor.write_text(f"#!/bin/sh\necho THE EDITOR\n{wait}\n")
    editor.chmod(0o700)
    environ = {**os.environ, "VISUAL": str(editor), "TRITONDECK_HOME": str(tmp_path / "home")}
    desk = Desk(settings.load(environ))
    desk.save(desk.draft(DIGITS, "onnx", "digits"))
    terminals.append(Terminal([sys.executable, "-m", "console.cli"], environ))
    terminal = terminals[0]
    words = ("digits.nemo", "Not built yet", "deployments/digits.toml", "q Leave")
    terminal.wait(lambda: all(word in "".join(terminal.shown()) for word in words))
    terminal.settle()
    before = terminal.shown()
    terminal.press(b"e")
    terminal.until(b"THE EDITOR")
    assert terminal.restored
    again = len(terminal.output)
    done.touch()
    terminal.wait(lambda: b"\x1b[?1049h" in terminal.output[again:])
    # The first line has figures that change.
    terminal.wait(lambda: terminal.shown(again)[1:] == before[1:])
    terminal.press(b"q")
    assert terminal.ended() == 0
    assert terminal.restored


# -- what is drawn


def test_a_modal_that_closes_leaves_the_list_as_it_was(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, home=tmp_path)
    before = whole(terminal)
    terminal.press(b"?")
    terminal.until(b"KEY, WORD")
    terminal.settle()
    assert terminal.shown() != before
    terminal.press(b"\x1b")
    terminal.wait(lambda: terminal.shown() == before)


def test_a_resized_terminal_shows_what_one_of_that_size_does(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, home=tmp_path)
    wide = whole(terminal)
    small = len(terminal.output)
    terminal.resize(80, 24)
    terminal.wait(lambda: len(terminal.output) > small + 500)
    terminal.wait(lambda: "neva" in "".join(terminal.shown(small)))
    terminal.settle()
    large = len(terminal.output)
    terminal.resize(120, 36)
    terminal.wait(lambda: terminal.shown(large) == wide)


@pytest.mark.parametrize("words", ["漢字カナ", "e\u0301a\u0308", "👩\u200d🚀⚠\ufe0f", "한국어 ｗ"])
def test_characters_of_any_width_look_as_with_textuals_own_driver(
    terminals: list[Terminal], tmp_path: Path, words: str
) -> None:
    poison = words.encode("unicode_escape").decode()

    def at_the_graph(what: str) -> Terminal:
        """Over Home to the second of the checkpoints, with what is said of it."""
        terminal = opened(terminals, poison, what, home=tmp_path)
        terminal.press(b"j")
        terminal.settle()
        terminal.press(b"n")
        terminal.until(b"notes.txt")
        terminal.settle()
        for key in (b"j", b"j", b"k"):
            terminal.press(key)
            terminal.settle()
        terminal.wait(lambda: "ONNX graph" in "".join(terminal.shown()))
        terminal.settle()
        return terminal

    shown = at_the_graph("run").shown()
    plain = at_the_graph("plain")
    plain.wait(lambda: plain.shown() == shown)
    assert words[0] in "".join(shown)


def test_an_unknown_theme_is_said_in_words_before_the_terminal_is_touched(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    environ = {**os.environ, "TRITONDECK_HOME": str(tmp_path), "TRITONDECK_THEME": "beige"}
    terminals.append(Terminal([sys.executable, "-m", "console.cli"], environ))
    assert terminals[0].ended() == 2
    assert b"no theme named beige" in terminals[0].output
    assert b"\x1b[?" not in terminals[0].output
