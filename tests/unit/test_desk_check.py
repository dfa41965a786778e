"""Composing checks: accepted by name, sorted, and never a crash."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from console import settings
from console.desk import check
from console.desk.desk import Desk
from console.facts import DeckError, Level, Refused, Verdict

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "examples" / "digits" / "deployment.toml")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(settings.load({"TRITONDECK_HOME": str(tmp_path)}))


def verdict(name: str, level: Level) -> Verdict:
    return Verdict(name, level, f"{name} is {level}")


def test_failures_come_first_and_passes_last() -> None:
    found = [
        verdict("fine", Level.PASS),
        verdict("unsure", Level.UNKNOWN),
        verdict("tight", Level.WARN),
        verdict("waved", Level.FAIL),
        verdict("broken", Level.FAIL),
    ]
    ordered = check.judged(found, ["waved"])
    assert [v.check for v in ordered] == ["broken", "waved", "tight", "unsure", "fine"]
    assert [v.check for v in ordered if v.blocks] == ["broken"]


def test_accepting_marks_failures_only() -> None:
    (kept,) = check.judged([verdict("tight", Level.WARN)], ["tight"])
    assert not kept.accepted


def test_a_name_that_no_check_has_is_told() -> None:
    ordered = check.judged([verdict("disk-state", Level.PASS)], ["disk"])
    assert [(v.check, v.level) for v in ordered] == [
        ("accept", Level.WARN),
        ("disk-state", Level.PASS),
    ]
    assert "disk" in ordered[0].summary


def test_a_check_that_crashes_is_unknown_with_its_words_and_the_others_are_heard() -> None:
    def crash() -> list[Verdict]:
        raise ZeroDivisionError("figures ran out")

    def refuse() -> list[Verdict]:
        raise DeckError("no such tool", why="not on PATH", fix="install it")

    found = check.run([("a", crash), ("b", refuse), ("c", lambda: [verdict("fine", Level.PASS)])])
    assert [(v.check, v.level) for v in found] == [
        ("a", Level.UNKNOWN),
        ("b", Level.UNKNOWN),
        ("fine", Level.PASS),
    ]
    assert "figures ran out" in found[0].figure
    assert (found[1].summary, found[1].figure, found[1].fix) == (
        "no such tool",
        "not on PATH",
        "install it",
    )


def test_the_same_verdict_of_two_rooms_is_heard_once() -> None:
    same = [verdict("route", Level.PASS)]
    assert check.run([("a", lambda: same), ("b", lambda: same)]) == tuple(same)


def test_the_digits_example_passes_here_with_every_room_heard(desk: Desk) -> None:
    told: list[str] = []
    report = desk.check(desk.open(DIGITS), lambda message, fraction=None: told.append(message))
    names = {v.check for v in report.verdicts}
    assert names >= {
        "route",
        "port-http",
        "disk-state",
        "disk-cache",
        "host-memory",
        "shm",
        "glibc",
        "libpython",
        "environment-nemo",
        "environment-embedded",
        "server-age",
        "model-configuration",
        "pickle-weights",
    }
    assert not report.blocks
    assert not [v for v in report.verdicts if v.summary.startswith("the check")]
    assert report.elapsed > 0
    assert len(told) >= 5


def test_a_missing_checkpoint_is_a_failed_check_and_refuses_a_deployment(desk: Desk) -> None:
    digits = desk.open(DIGITS)
    gone = digits.model_copy(update={"checkpoints": {"model": "/no/such.nemo"}})
    report = desk.check(gone)
    assert [(v.check, v.level) for v in report.verdicts] == [("checkpoint", Level.FAIL)]
    with pytest.raises(Refused):
        desk.deploy(gone)
    assert desk.runs() == ()


def test_a_taken_port_blocks_until_it_is_accepted(desk: Desk) -> None:
    digits = desk.open(DIGITS)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        server = digits.server.model_copy(update={"http_port": holder.getsockname()[1]})
        taken = digits.model_copy(update={"server": server})
        report = desk.check(taken)
        assert [v.check for v in report.verdicts if v.blocks] == ["port-http"]
        accepting = digits.checks.model_copy(update={"accept": ("port-http",)})
        report = desk.check(taken.model_copy(update={"checks": accepting}))
        assert not report.blocks
        assert [v.check for v in report.verdicts if v.accepted] == ["port-http"]


def test_an_exposed_embedded_server_must_be_accepted(desk: Desk) -> None:
    digits = desk.open(DIGITS)
    server = digits.server.model_copy(update={"address": "0.0.0.0", "expose": True})
    report = desk.check(digits.model_copy(update={"server": server}))
    assert "server-age" in [v.check for v in report.verdicts if v.blocks]


def test_checking_writes_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.check(desk.open(DIGITS))
    desk.doctor()
    assert list(tmp_path.iterdir()) == []


def test_doctor_speaks_of_this_machine(desk: Desk) -> None:
    names = {v.check for v in desk.doctor().verdicts}
    assert names >= {"system", "glibc", "libpython", "shm", "disk-state", "environment-nemo"}
    assert "gpu" in names or "gpu-0" in names


def test_a_check_loads_no_client_of_triton(tmp_path: Path) -> None:
    """gRPC and NumPy are a third of what the console may take before a request is sent."""
    code = (
        "import sys\nfrom console import cli\n"
        f"cli.main(['check', {DIGITS!r}])\n"
        "print({'grpc', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    environ = {**os.environ, "TRITONDECK_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert "Triton will take the configuration" in done.stdout
    assert done.stderr.splitlines()[-1] == "set()"
