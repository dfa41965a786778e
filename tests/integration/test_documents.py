"""What the tutorial and the how-to pages tell to type works, and prints what they show.

Every block of ``sh`` is run, page by page, in one home; the tutorial comes first, and its
deployment is the one that the other pages use. What a page leaves running is that page's failure, and
is stopped after it: the next one does not meet it. A block is left out only by a comment before it,
``<!-- not run: reason -->``. ``# exits N`` at the end of a block is the exit status that it must
have. A block of ``text`` that follows at once is what it prints, with ``…`` for anything (alone on a
line: for any lines) and with figures, paths and times as they were.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support import Operator, managed, until_gone

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROUTES = ("tensorrt.md", "tensorrt-llm.md", "retrieval.md")
PAGES = [*sorted((DOCS / "how-to").glob("*.md")), DOCS / "servers.md", *(DOCS / p for p in ROUTES)]
SLOW = {"serve-your-nemo", "roll-back", "share-a-server", "tensorrt"}
"""Pages with deployments of their own; test_versions.py does what the second and third do,
test_tensorrt.py what the last does."""
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>.*?) -->\n+)?^```sh\n(?P<command>.*?)^```\n"
    r"(?:^```text\n(?P<shown>.*?)^```\n)?",
    re.M | re.S,
)
EXITS = re.compile(r"# exits (\d+)\s*\Z")
# Only timing decides whether these lines come: a step that has begun, its percentages, and that
# something is waited for which may have ended by then.
PASSING = re.compile(
    r"^(?:\[\d+/\d+\] \S+ +(?! |done|unchanged|FAILED|cancelled).*|waiting for it to end)\n", re.M
)
VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "DATE"),
    (re.compile(r"(https?://[\w.]+):\d+"), r"\1:PORT"),
    (re.compile(r"(?<![\w.:/])…?/(?:[\w.@+~-]+/)*([\w.@+~-]+)"), r"PATH/\1"),
    (re.compile(r"-[0-9a-f]{12}\b"), "-DIGEST"),
    (re.compile(r"\d+ min \d+ s\b|\b\d+(?:\.\d+)? ?(?:ms|s|min|h|B|KiB|MiB|GiB)\b"), "FIGURE"),
    (re.compile(r"\b(pid )\d+(\) of )[\w-]+"), r"\1PID\2USER"),
    (re.compile(r"((?:running|serving) +)\d+"), r"\1PID"),
    (re.compile(r"\b3\.1\d(?:\.\d+)?\b|libpython3\.1\d"), "PYTHON"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass(frozen=True)
class Shell:
    """Where the pages are worked through: a person, and a folder with the examples."""

    person: Operator
    folder: Path

    def run(self, script: str) -> tuple[int, str]:
        """Exit status, and both outputs as a terminal would show them."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={
                **self.person.env,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "COLUMNS": "100",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        return done.returncode, done.stdout


def blocks(page: Path) -> Iterator[re.Match[str]]:
    return BLOCK.finditer(page.read_text(encoding="utf-8"))


def settled(text: str) -> str:
    """`text` without what differs from run to run."""
    text = PASSING.sub("", text)
    for pattern, instead in VOLATILE:
        text = pattern.sub(instead, text)
    return text.strip()


def pattern_of(shown: str) -> re.Pattern[str]:
    lines = [
        r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r" ?\n"
        for line in settled(shown).splitlines()
    ]
    return re.compile("".join(lines))


def work_through(page: Path, shell: Shell) -> None:
    """Run its blocks; nothing of it runs afterwards, whatever came of them."""
    try:
        run_blocks(page, shell)
        until_gone(str(shell.person.home))
    finally:
        if shell.person.processes():
            shell.person.leave()
            for process in shell.person.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    process.wait(10)


def run_blocks(page: Path, shell: Shell) -> None:
    for block in blocks(page):
        if block["why"]:
            continue
        command = block["command"].strip()
        exits = EXITS.search(command)
        status, printed = shell.run(command)
        assert status == (int(exits[1]) if exits else 0), f"{command}\n{printed}"
        if block["shown"]:
            found = settled(printed) + "\n"
            assert pattern_of(block["shown"]).fullmatch(found), f"{command}\n{found}"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    for name in ("nemo", "embedded", "modelopt", "retrieval"):
        managed(name)
    home = tmp_path_factory.mktemp("documents")
    folder = home / "source"
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    return Shell(Operator(home), folder)


@pytest.fixture(scope="module")
def tutorial(shell: Shell) -> AssertionError | None:
    """What is wrong with the tutorial; the pages after it need its deployment, not its every word."""
    try:
        work_through(DOCS / "tutorial.md", shell)
    except AssertionError as error:
        return error
    return None


def test_the_tutorial_works_as_written_and_leaves_nothing_running(
    tutorial: AssertionError | None,
) -> None:
    if tutorial is not None:
        raise tutorial


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else [])
        for page in PAGES
    ],
)
@pytest.mark.usefixtures("tutorial")
def test_the_page_works_as_written_and_leaves_nothing_running(page: Path, shell: Shell) -> None:
    work_through(page, shell)


def test_a_block_is_left_out_for_a_written_reason_only() -> None:
    every = [block for page in (DOCS / "tutorial.md", *PAGES) for block in blocks(page)]
    texts = [page.read_text(encoding="utf-8") for page in (DOCS / "tutorial.md", *PAGES)]
    assert len(every) == sum(len(re.findall("^```sh$", text, re.M)) for text in texts)
    assert len(every) >= 30
    reasons = [block["why"] for block in every if block["why"]]
    assert len(reasons) <= 14
    named = [name for reason in reasons for name in re.findall(r"tests/[\w/.]+\.py", reason)]
    assert [name for name in named if not (ROOT / name).is_file()] == []
