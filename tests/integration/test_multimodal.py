"""Real media files to a model with NeMo's multimodal tensors in a real Triton, from the command line and
the Try screen. The model says what arrived."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from backends.multimodal.words import quoted
from console.desk.attached import AttachedServer
from console.desk.desk import Desk
from console.planning.variables import expand, literal
from console.settings import load
from console.triton import control
from screens.error import ErrorScreen
from screens.flow import Flow, Stage
from screens.try_ import TryScreen
from screens.widgets.flag import Flag
from screens.widgets.prompt import PromptForm
from tests import mediafiles
from tests.contract.samples import HOSTILE
from tests.integration.conftest import MODELS, Server
from tests.screens.conftest import make_app, until
from tests.screens.steps import on, shown
from tests.support import Operator

pytestmark = pytest.mark.integration

MEDIA = 'input { name: "input_media" data_type: TYPE_UINT8 dims: [ -1, -1, -1, 3 ] }'
SIGNAL = """input { name: "input_signal" data_type: TYPE_FP32 dims: [ -1 ] }
input { name: "input_signal_length" data_type: TYPE_INT32 dims: [ 1 ] }"""
SETTINGS = {
    "batch_size": "INT64", "max_output_len": "INT64", "top_k": "INT64", "top_p": "FP32",
    "temperature": "FP32", "repetition_penalty": "FP32", "num_beams": "INT64", "lora_uids": "STRING",
}  # fmt: skip


THEIRS = "theirs"
"""A model that says nothing of who built it, as PyTriton serves it for somebody else."""


def config(name: str, kind: str) -> str:
    """What PyTriton writes for the class that NeMo serves."""
    optional = "\n".join(
        f'input {{ name: "{key}" data_type: TYPE_{dtype} dims: [ -1 ] optional: true }}'
        for key, dtype in SETTINGS.items()
    )
    return f"""name: "{name}"
backend: "python"
max_batch_size: 1
input {{ name: "input_text" data_type: TYPE_STRING dims: [ -1 ] }}
{SIGNAL if kind == "salm" else MEDIA}
{optional}
output {{ name: "outputs" data_type: TYPE_STRING dims: [ -1 ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
parameters {{ key: "tritondeck_adapter" value {{ string_value: "nemo-multimodal:{kind}" }} }}
"""


@pytest.fixture(scope="module")
def served(make_module_server: Callable[[], Server]) -> Iterator[Server]:
    """One server with a model of each kind of media."""
    server = make_module_server()
    names = ("neva", "vila", "vita", "salm", THEIRS)
    for name in names:
        place = server.repository / name
        shutil.copytree(MODELS / "multimodal", place)
        told, _, parameters = config(name, name).partition("parameters")
        (place / "config.pbtxt").write_text(
            told if name == THEIRS else told + "parameters" + parameters
        )
    server.start()
    for name in names:
        control.load(server.endpoint, name)
    yield server


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "home")


def ask(operator: Operator, served: Server, kind: str, flag: str, path: Path, *more: str) -> str:
    words = ("query", served.endpoint.url, "--model", kind, flag, str(path), "--text", "What?")
    return operator.does(*words, *more).strip()


def refused(operator: Operator, served: Server, kind: str, flag: str, path: Path) -> str:
    process = operator.start(
        "query", served.endpoint.url, "--model", kind, flag, str(path), "--text", "What?"
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and not out, err
    return " ".join(err.split())


# ---------------------------------------------------------------------------- command line


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif"])
def test_a_picture_arrives_as_one_frame_of_its_colour(
    operator: Operator, served: Server, tmp_path: Path, suffix: str
) -> None:
    path = mediafiles.picture(tmp_path / f"red.{suffix}", mediafiles.RED)
    said = ask(operator, served, "neva", "--image", path)
    start, _, end = said.partition(" from ")
    assert start == "'What?': uint8 1 frames 64x48" and end.endswith("64 tokens")
    colour = [int(c) for c in end.split(" to ")[0].split("/")]
    assert max(abs(a - b) for a, b in zip(colour, mediafiles.RED, strict=True)) < 8


def test_the_mark_goes_before_the_text_of_vila_unless_it_is_switched_off(
    operator: Operator, served: Server, tmp_path: Path
) -> None:
    path = mediafiles.picture(tmp_path / "a.png")
    assert ask(operator, served, "vila", "--image", path).startswith(r"'<image>\n What?': ")
    plain = ask(operator, served, "vila", "--image", path, "--input", "mark=false")
    assert plain.startswith("'What?': ")


def test_a_server_of_somebody_else_is_known_by_its_inputs_and_asked_for_its_type(
    operator: Operator, served: Server, tmp_path: Path
) -> None:
    path = mediafiles.picture(tmp_path / "a.png")
    said = ask(operator, served, THEIRS, "--image", path, "--input", "model_type=vila")
    assert said.startswith(r"'<image>\n What?': uint8 1 frames 64x48")


def test_a_video_arrives_as_sampled_frames_in_order(
    operator: Operator, served: Server, tmp_path: Path
) -> None:
    path = mediafiles.video(tmp_path / "fade.mp4", count=300)
    said = ask(operator, served, "vita", "--video", path, "--input", "max_output_len=7")
    assert "uint8 150 frames 64x48 from 0/0/0 to 255/255/255, 7 tokens" in said


def test_an_animated_gif_arrives_as_its_frames(
    operator: Operator, served: Server, tmp_path: Path
) -> None:
    said = ask(operator, served, "vita", "--video", mediafiles.gif(tmp_path / "a.gif"))
    assert "uint8 5 frames 32x24 from 0/0/0 to 255/255/255" in said


@pytest.mark.parametrize("name", ["tone.wav", "tone.flac"])
def test_sound_arrives_as_its_samples(
    operator: Operator, served: Server, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    mediafiles.wav(path) if path.suffix == ".wav" else mediafiles.sound(path, "flac")
    said = ask(operator, served, "salm", "--audio", path)
    assert said == "'What?': float32 16000 of 16000 samples, 440 Hz, 64 tokens"


def test_wrong_files_are_one_sentence_and_nothing_is_sent(
    operator: Operator, served: Server, tmp_path: Path
) -> None:
    (tmp_path / "notes.jpg").write_text("Dear all,\n")
    said = refused(operator, served, "neva", "--image", tmp_path / "notes.jpg")
    assert "notes.jpg is not a picture that can be read why: its first bytes are text" in said
    cut = mediafiles.video(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:-800])
    said = refused(operator, served, "vita", "--video", cut)
    assert "cut.mp4 is cut off or damaged" in said
    long = mediafiles.endless_wav(tmp_path / "long.wav", 3)
    said = refused(operator, served, "salm", "--audio", long)
    assert "long.wav is too long why: it lasts 3 h, and 30.7 s are taken at most" in said


def test_a_request_can_be_copied_as_python_that_sends_the_same(
    operator: Operator, served: Server, tmp_path: Path
) -> None:
    path = mediafiles.picture(tmp_path / "a.png")
    text = ask(operator, served, "neva", "--image", path, "--python")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    file = re.search(r"/\S+\.npy", text)
    assert file
    shutil.rmtree(Path(file[0]).parent)
    assert "uint8 1 frames 64x48" in done.stdout, done.stderr


# ---------------------------------------------------------------------------- the Try screen


async def test_the_try_screen_sends_a_picture_and_shows_the_mark(
    served: Server, tmp_path: Path
) -> None:
    desk = Desk(load({"TRITONDECK_HOME": str(tmp_path / "home")}))
    desk.attach(AttachedServer(name="media", url=served.endpoint.url))
    app = make_app(desk)
    path = mediafiles.picture(tmp_path / "green.png", mediafiles.GREEN)
    async with app.run_test(size=(140, 40)) as pilot:
        app.screen.go(Stage.TRY, Flow(service="attached:media", option="vila"))  # type: ignore[attr-defined]
        await on(pilot, TryScreen)
        await until(pilot, lambda: app.screen.query(PromptForm), seconds=30)
        form = app.screen.query_one(PromptForm)
        assert form.query_one(Flag).value, "the mark is there and on"
        text, media, *_ = form.query(Input)
        text.value, media.value = "What is this?", str(path)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "1 frames 64x48" in shown(app, "#answers"), seconds=30)
        said = shown(app, "#answers")
        assert r"'<image>\n What is this?'" in said and "30/180/40" in said


async def test_the_try_screen_says_what_is_wrong_with_a_file(
    served: Server, tmp_path: Path
) -> None:
    desk = Desk(load({"TRITONDECK_HOME": str(tmp_path / "home")}))
    desk.attach(AttachedServer(name="media", url=served.endpoint.url))
    (tmp_path / "notes.jpg").write_text("Dear all,\n")
    app = make_app(desk)
    async with app.run_test(size=(140, 40)) as pilot:
        app.screen.go(Stage.TRY, Flow(service="attached:media", option="neva"))  # type: ignore[attr-defined]
        await on(pilot, TryScreen)
        await until(pilot, lambda: app.screen.query(PromptForm), seconds=30)
        text, media, *_ = app.screen.query_one(PromptForm).query(Input)
        text.value, media.value = "What?", str(tmp_path / "notes.jpg")
        await pilot.press("ctrl+s")
        error = (await on(pilot, ErrorScreen)).error
        assert error.title == "media: notes.jpg is not a picture that can be read"


# ---------------------------------------------------------------------------- Hydra


def test_quoted_values_reach_a_real_hydra_script_unchanged(
    nemo_environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "x.yaml").write_text("model:\n  a: null\n  b: null\n  c: null\n")
    (tmp_path / "x.py").write_text(
        "import hydra, json\n"
        "@hydra.main(config_path='conf', config_name='x', version_base=None)\n"
        "def main(cfg):\n    print(json.dumps([cfg.model.a, cfg.model.b, cfg.model.c]))\n"
        "main()\n"
    )
    values = [HOSTILE, "a\\", 'a\\"b ${oc.env:HOME} {c: d}']
    words = [
        f"model.{key}={expand(quoted(literal(value)), {})}"
        for key, value in zip("abc", values, strict=True)
    ]
    done = subprocess.run(
        [str(nemo_environment / "bin" / "python"), "x.py", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == values
