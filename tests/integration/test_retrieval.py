"""Retrieval for real: towers exported, ensembles in a real Triton, real stores, right answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from console import settings as settings_module
from console.app import TritonDeckApp
from console.desk.desk import Desk
from console.facts import Endpoint, InferenceAnswer, InferenceRequest, TensorValue
from screens.flow import Flow, Stage
from screens.home import HomeScreen
from screens.try_ import TryScreen
from screens.widgets.pathfield import PathField
from screens.widgets.prompt import PromptForm
from tests.processes import until
from tests.screens.conftest import until as seen
from tests.screens.steps import listed, on, shown
from tests.support import Operator, managed, until_gone

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"
PICTURES = SHAPES / "pictures"
HERE = Path(__file__).parent
WANTED = 0.95
ASKED = 24
"""Held-out images that are asked for, two of each class."""


@pytest.fixture(scope="module")
def environment() -> Path:
    managed("nemo")
    managed("embedded")
    return managed("retrieval")


@pytest.fixture(scope="module")
def operator(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    person = Operator(tmp_path_factory.mktemp("retrieval"))
    yield person
    person.leave()
    until_gone(str(person.home), 30)


def pictures(folder: Path, first: int, count: int) -> Path:
    """Images that no training saw, with ``captions.jsonl``."""
    words = ["pictures", str(folder), "--first", str(first), "--count", str(count)]
    subprocess.run([sys.executable, str(SHAPES / "make_shapes.py"), *words], check=True)
    return folder


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Images that are neither in training nor in a store, with their captions."""
    folder = pictures(tmp_path_factory.mktemp("held-out"), 9000, ASKED)
    lines = (folder / "captions.jsonl").read_text().splitlines()
    return [(folder / r["image"], r["caption"]) for r in map(json.loads, lines)]


def deploy(operator: Operator, name: str, options: str = "", env: str = "") -> None:
    """The example under another name, with other options."""
    text = (SHAPES / "deployment.toml").read_text().replace('name = "shapes"', f'name = "{name}"')
    text = text.replace('model = "."', f'model = "{SHAPES}"')
    text = text.replace('input = "', f'input = "{SHAPES}/') + f"\n[options]\n{options}\n{env}"
    file = operator.home / f"{name}.toml"
    file.write_text(text)
    run = operator.json("deploy", str(file))["run"]
    assert run["state"] == "succeeded"
    assert run["answer"] == "a blue circle; a red triangle"


@pytest.fixture(scope="module")
def served(operator: Operator) -> Iterator[str]:
    """The example with a private PostgreSQL, filled with the example's pictures."""
    deploy(operator, "shapes")
    done = operator.json("store", "fill", "shapes", str(PICTURES))["store"]
    assert (done["written"], done["failed"], done["total"]) == (24, 0, 24)
    yield "shapes"
    operator.does("stop", "shapes", code=None)


def desk_of(operator: Operator) -> Desk:
    return Desk(settings_module.load(operator.env))


def share(operator: Operator, name: str, held_out: list[tuple[Path, str]]) -> float:
    """How many of the images get their caption, by the command line."""
    right = 0
    for path, caption in held_out:
        answer = operator.json("store", "search", name, "--image", str(path), "--top", "1")
        right += answer["answer"].splitlines()[0] == caption
    return right / len(held_out)


# ---------------------------------------------------------------------------- right answers


def test_the_command_line_says_what_is_in_an_image(
    operator: Operator, served: str, held_out: list[tuple[Path, str]]
) -> None:
    assert share(operator, served, held_out) >= WANTED


async def test_the_screen_says_what_is_in_an_image(
    operator: Operator, served: str, held_out: list[tuple[Path, str]]
) -> None:
    desk, right = desk_of(operator), 0
    app = TritonDeckApp(desk)
    async with app.run_test(size=(140, 40)) as pilot:
        home = app.screen
        assert isinstance(home, HomeScreen)
        await listed(pilot)
        home.go(Stage.TRY, Flow(name=served, service=served))
        await on(pilot, TryScreen)
        await seen(pilot, lambda: app.screen.query(PromptForm), 30)  # type: ignore[arg-type]
        for path, caption in held_out:
            app.screen.query_one(PathField).value = str(path)
            await pilot.press("ctrl+s")
            await seen(
                pilot,
                lambda path=path: path.name in shown(app, "#answers"),  # type: ignore[misc]
                30,
            )
            right += caption in shown(app, "#answers").split(path.name)[-1]
    assert right / len(held_out) >= WANTED


def test_a_text_finds_images_and_a_filter_narrows_them(operator: Operator, served: str) -> None:
    found = operator.does("store", "search", served, "--text", "a green triangle", "--top", "2")
    assert found.splitlines()[0] == "a green triangle"
    words = ("--text", "a green triangle", "--filter", '{"color": "blue"}')
    narrowed = operator.does("store", "search", served, *words).splitlines()
    assert narrowed[0].startswith("a blue") and len(narrowed) == 6
    assert operator.json("store", "count", served, "--filter", '{"color": "blue"}')["store"][
        "count"
    ] == len(list(PICTURES.glob("*-blue-*.png")))


def test_a_request_that_cannot_be_answered_says_why(operator: Operator, served: str) -> None:
    text = operator.home / "words.jpg"
    text.write_text("these are words")
    process = operator.start("store", "search", served, "--image", str(text))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not an image that can be read" in error


# ---------------------------------------------------------------------------- the store


def test_a_second_fill_writes_nothing(operator: Operator, served: str) -> None:
    done = operator.json("store", "fill", served, str(PICTURES))["store"]
    assert (done["written"], done["unchanged"], done["total"]) == (0, 24, 24)


def test_a_record_that_fails_is_told_and_the_rest_goes_on(
    operator: Operator, served: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    good = next(PICTURES.glob("*.png"))
    (tmp_path / "good.png").write_bytes(good.read_bytes())
    lines = [
        '{"id": "t1", "caption": "words alone"}',
        '{"id": "t2", "image": "broken.png", "caption": "x"}',
        '{"id": "t3", "image": "missing.png"}',
        "no JSON",
        '{"id": "t1", "caption": "the same id"}',
        '{"id": "t4", "image": "good.png", "year": 2001}',
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    process = operator.start("store", "fill", served, str(tmp_path / "list.jsonl"), "--json")
    out, told = process.communicate(timeout=120)
    done = json.loads(out)["store"]
    assert process.returncode == 1
    assert (done["written"], done["failed"]) == (2, 4)
    assert "list.jsonl:2: " in told and "missing.png: No such file" in told
    assert len(Path(done["failures"]).read_text().splitlines()) == 4
    gone = operator.json("store", "delete", served, "t1", "t4")["store"]
    assert (gone["deleted"], gone["total"]) == (2, 24)


def workers(operator: Operator) -> list[psutil.Process]:
    return [p for p in operator.processes() if "retrieval_store.py" in str(p.info)]


def test_a_fill_that_is_killed_leaves_whole_records_and_goes_on(
    operator: Operator, served: str, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "many", 20_000, 700)
    process = operator.start("store", "fill", served, str(folder))
    assert process.stderr is not None
    assert "256 of 700" in process.stderr.readline()
    (worker,) = workers(operator)
    worker.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 1
    there = operator.json("store", "count", served)["store"]["count"] - 24
    assert there % 256 == 0 and 256 <= there < 700
    done = operator.json("store", "fill", served, str(folder))["store"]
    assert (done["unchanged"], done["written"]) == (there, 700 - there)
    operator.json("store", "rebuild", served)
    assert operator.does("store", "search", served, "--text", "a red circle").startswith("a red c")
    left = operator.json("store", "delete", served, "--filter", '{"color": ["red", "green"]}')
    assert left["store"]["total"] == (724 - left["store"]["deleted"])
    done = operator.json("store", "fill", served, str(PICTURES), "--replace")["store"]
    assert (done["written"], done["total"]) == (24, 24)


def test_the_private_store_lives_as_long_as_its_users(operator: Operator, served: str) -> None:
    def servers() -> list[psutil.Process]:
        return [p for p in operator.processes() if p.info["name"] == "postgres"]

    assert servers()
    operator.does("stop", served)
    until(lambda: not servers())
    assert operator.json("store", "count", served)["store"]["count"] == 24
    until(lambda: not servers())
    sockets = list((operator.home / "state" / "work" / served / "store" / "data").glob(".s.*"))
    assert sockets == []


# ---------------------------------------------------------------------------- other stores


@pytest.fixture
def server(environment: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a PostgreSQL that the test started, with the password in `tmp_path`/secret."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    secret = tmp_path / "secret"
    secret.write_text("a pass'word")
    secret.chmod(0o600)
    process = subprocess.Popen(
        [
            *(str(environment / "bin" / "python"), str(HERE / "retrieval_server.py")),
            *(str(tmp_path), str(environment), str(port), "a pass'word"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def listening() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    until(listening, 60)
    yield f"postgresql://keeper@127.0.0.1:{port}/postgres"
    process.terminate()
    process.wait(30)


def test_a_server_named_by_its_address_is_used_the_same_way(
    operator: Operator, server: str, tmp_path: Path, held_out: list[tuple[Path, str]]
) -> None:
    deploy(
        operator, "named", f'store_url = "{server}"\nstore_password_file = "{tmp_path / "secret"}"'
    )
    try:
        assert operator.json("store", "fill", "named", str(PICTURES))["store"]["written"] == 24
        assert share(operator, "named", held_out) >= WANTED
        assert not (operator.home / "state" / "work" / "named" / "store").exists()
    finally:
        operator.does("stop", "named")


def test_qdrant_in_its_local_mode_gives_the_same_answers(
    operator: Operator, held_out: list[tuple[Path, str]]
) -> None:
    deploy(operator, "points", 'store = "qdrant"')
    try:
        assert operator.json("store", "fill", "points", str(PICTURES))["store"]["written"] == 24
        assert share(operator, "points", held_out) >= WANTED
    finally:
        operator.does("stop", "points")


# ---------------------------------------------------------------------------- both stores alike


def calls(environment: Path, folder: Path, kind: str, *more: str) -> dict[str, Any]:
    settings = {
        "kind": kind,
        "url": "",
        "folder": str(folder),
        "packages": str(environment),
        "collection": "records",
        "ef_search": 50,
        "hnsw_m": 16,
        "hnsw_ef_construction": 64,
        "build_memory": "64MB",
    }
    done = subprocess.run(
        [
            str(environment / "bin" / "python"),
            *(str(HERE / "retrieval_calls.py"), json.dumps(settings), *more),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", ["postgresql", "qdrant"])
def test_a_store_keeps_finds_filters_and_deletes(
    environment: Path, tmp_path: Path, kind: str
) -> None:
    found = calls(environment, tmp_path, kind)
    assert found == {
        "count": 40,
        "red": 20,
        "either": 20,
        "range": 10,
        "odd": 20,
        "none": 0,
        "known": {"record 1": "d1"},
        "nearest": ["record 7"],
        "filtered": found["filtered"],
        "texts": 10,
        "exact": True,
        "document": {"n": 7, "color": "blue", "odd": True, "t": "it's"},
        "score": 1.0,
        "indexed": ["record 7"],
        "deleted": [1, 4],
        "left": 35,
    }
    assert all(int(name.split()[1]) % 2 == 0 for name in found["filtered"])
    assert len(found["filtered"]) == 3
    other = calls(environment, tmp_path, kind, "--other-model")
    assert "another model" in other["error"]
    until_gone(str(tmp_path))


# ---------------------------------------------------------------------------- other towers


def test_siglip_and_a_sentence_encoder_are_served_as_pytorch_runs_them(
    operator: Operator, environment: Path, tmp_path: Path
) -> None:
    python = managed("nemo") / "bin" / "python"
    script = str(HERE / "retrieval_models.py")
    quiet = {"capture_output": True, "env": {**os.environ, "HF_HUB_OFFLINE": "1"}, "check": True}
    subprocess.run([str(python), script, "make", str(tmp_path)], **quiet)  # type: ignore[call-overload]
    text = f"""
version = 1
name = "siglip"
backend = "clip-retrieval"
[checkpoints]
model = "{tmp_path / "siglip"}"
sentence = "{tmp_path / "sentence"}"
[server]
http_port = 0
grpc_port = 0
metrics_port = 0
"""
    (tmp_path / "siglip.toml").write_text(text)
    operator.json("deploy", str(tmp_path / "siglip.toml"))
    try:
        image, texts = next(PICTURES.glob("*.png")), ["a red circle", "Blue, and more than that"]
        told = subprocess.run(
            [str(python), script, "embed", str(tmp_path), str(image), *texts],
            **quiet,  # type: ignore[call-overload]
        )
        right = json.loads(told.stdout.splitlines()[-1])
        endpoint = desk_of(operator).service("siglip").endpoint
        assert near(vector(endpoint, "siglip_image_embed", "IMAGE", file=image), right["image"][0])
        for number, words in enumerate(texts):
            for column in ("text", "sentence"):
                found = vector(endpoint, f"siglip_{column}_embed", "TEXT", values=(words,))
                assert near(found, right[column][number]), column
    finally:
        operator.does("stop", "siglip")


def vector(endpoint: Endpoint, model: str, tensor: str, **given: Any) -> tuple[float, ...]:
    from console.triton import inference

    request = InferenceRequest(model, (TensorValue(tensor, "BYTES", (1, 1), **given),))
    answer = inference.infer(endpoint, request)
    assert isinstance(answer, InferenceAnswer)
    return answer.outputs[0].values


def near(found: tuple[float, ...], right: list[float]) -> bool:
    assert len(found) == len(right)
    return max(abs(a - b) for a, b in zip(found, right, strict=True)) < 1e-4
