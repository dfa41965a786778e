"""Answers that several threads want at the same time."""

from __future__ import annotations

import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from console.checkpoints.model import Checkpoint
from console.checkpoints.read import read
from console.desk import plan, tools
from console.desk.asking import Answers
from console.desk.desk import Desk
from console.planning.deployment import Deployment
from console.planning.server import ServerSection
from tests.processes import settings_at, until

FACTS = Path(__file__).parents[2] / "examples" / "facts"


def test_threads_that_want_the_same_wait_for_one_that_asks() -> None:
    answers: Answers[str, int] = Answers()
    asked, gate = [], threading.Event()

    def ask() -> int:
        asked.append(1)
        assert gate.wait(30)
        return len(asked)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(answers.get, "a", ask) for _ in range(4)]
        until(lambda: bool(asked))
        # Another question does not wait for this one.
        assert answers.get("b", lambda: 7) == 7
        gate.set()
        assert [one.result(30) for one in waiting] == [1, 1, 1, 1]


@pytest.mark.parametrize(("fresh", "told"), [(math.inf, "oo"), (0.0, "ot")])
def test_an_answer_holds_for_its_time(fresh: float, told: str) -> None:
    answers: Answers[str, str] = Answers(fresh)
    words = iter(("o", "t"))
    assert [answers.get("a", words.__next__) for _ in told] == list(told)


def test_an_error_is_no_answer() -> None:
    answers: Answers[str, int] = Answers()
    with pytest.raises(ZeroDivisionError):
        answers.get("a", lambda: 1 // 0)
    assert answers.get("a", lambda: 3) == 3


def test_two_forms_ask_an_attached_server_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form asks from a thread at each key press."""
    monkeypatch.setattr(tools, "_SERVERS", Answers())  # whenever the second thread gets its turn
    asked, gate = [], threading.Event()

    class Triton(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            assert gate.wait(30)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Triton)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    section = ServerSection(launcher="attach", url=f"http://127.0.0.1:{server.server_port}")
    made = Deployment(name="one", backend="onnx", checkpoints={}, server=section)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(tools.tools, settings_at(tmp_path), made, ()) for _ in range(2)]
        until(lambda: bool(asked))
        gate.set()
        first, second = (one.result(30) for one in both)
    server.shutdown()
    server.server_close()
    assert first == second and len(set(asked)) == len(asked)


def test_a_program_that_could_not_be_asked_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a busy machine kept from answering in time answers the next time."""
    program, worker = tmp_path / "tritonserver", tmp_path / "worker.py"
    program.touch(mode=0o700)
    worker.write_text(
        "import pathlib\n"
        "asked = pathlib.Path(__file__).with_name('asked')\n"
        'print(\'{"facts": {"version": "2.51.0"}}\' if asked.exists() else \'Killed\')\n'
        "asked.touch()\n"
    )
    monkeypatch.setattr(tools, "worker", lambda: worker)
    section = ServerSection(launcher="local", path=str(program))
    made = Deployment(name="one", backend="onnx", checkpoints={}, server=section)
    first, second = (tools.tools(settings_at(tmp_path), made, ()) for _ in range(2))
    assert "could not be asked" in first.triton_problem
    assert (second.triton_problem, second.triton_version) == ("", "2.51.0")


def test_a_change_of_a_form_reads_its_checkpoint_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Script, verdicts and layout are asked for by three threads."""
    monkeypatch.setattr(plan, "_READ", Answers())  # whenever the last of them gets its turn
    model = tmp_path / "facts"
    shutil.copytree(FACTS, model)
    on = Desk(settings_at(tmp_path / "home"))
    made = Deployment(name="one", backend="vllm", checkpoints={"model": str(model)})
    reads: list[Path] = []

    def counted(path: Path) -> Checkpoint:
        reads.append(path)
        return read(path)

    monkeypatch.setattr("console.checkpoints.read.read", counted)
    with ThreadPoolExecutor(3) as pool:
        asks = (on.script, on.parallelism, on.server_verdicts)
        for one in [pool.submit(ask, made) for ask in asks]:
            one.result(30)
    assert reads == [model]
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    on.parallelism(made)
    assert reads == [model, model]
