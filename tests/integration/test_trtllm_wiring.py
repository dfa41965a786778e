"""The TensorRT-LLM repositories in a real Triton, with stand-ins behind the engine's tensor names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.language import trtllm_llmapi_repository as llmapi
from backends.language import trtllm_plan
from backends.language import trtllm_repository as repository
from backends.language.trtllm_argv import Part
from backends.language.trtllm_options import EngineOptions, LlmapiOptions
from backends.trtllm_engine import TrtllmEngineBackend
from backends.trtllm_llmapi import TrtllmLlmapiBackend
from console.checkpoints.read import read
from console.facts import Level
from console.generation.client import complete
from console.prompts import Style, TextRequest, Turn
from console.triton import control, inference
from console.triton.lint import Surroundings, lint
from console.triton.plain_http import request
from console.triton.repository import from_text
from tests.support import managed, written

pytestmark = pytest.mark.integration

FACTS = Path(__file__).parents[2] / "examples" / "facts"
STANDIN = Path(__file__).with_name("trtllm_standin.py")
QUESTION = "What is the color of a banana?"


STAGES = repository.Stages("facts")


def parts(**options: Any) -> tuple[Part, ...]:
    return trtllm_plan.parts_of(EngineOptions(**options), read(FACTS), None)


def tokenizers() -> Path:
    """The package that the images have and the embedded server's environment lacks."""
    return next(managed("nemo").glob("lib/python3*/site-packages/tokenizers"))


@pytest.fixture
def engine(make_server: Any) -> Any:
    """The engine's repository in a running server; the engine's model alone is a stand-in."""
    server = make_server()
    written(repository.engine_files(STAGES, parts(), "1.2.1"), server.values)
    middle = STAGES.engine
    for stage in (STAGES.before, STAGES.after):
        (server.repository / stage / "1" / "tokenizers").symlink_to(tokenizers())
    file = server.repository / middle / "config.pbtxt"
    config = from_text(file.read_text())
    config.backend = "python"
    file.write_text(str(config))
    (server.repository / middle / "1" / "model.py").write_text(STANDIN.read_text())
    server.start()
    for name in STAGES.every:
        control.load(server.endpoint, name, timeout=60)
    return server


def asked(text: str = QUESTION, **changes: Any) -> TextRequest:
    return TextRequest(
        model="facts", turns=(Turn("user", text),), style=Style.GENERATE, max_tokens=50,
        **changes,
    )  # fmt: skip


def test_text_goes_through_the_ensemble_and_back_whole_or_as_a_stream(engine: Any) -> None:
    whole = complete(engine.endpoint, asked(stream=False, temperature=0.0, seed=7))
    assert whole.text.strip() == QUESTION
    pieces: list[str] = []
    streamed = complete(engine.endpoint, asked(stream=True), on_text=pieces.append)
    assert streamed.text.strip() == QUESTION
    assert len(pieces) > 5
    short = complete(engine.endpoint, asked(stream=False, extra={"max_tokens": 2}))
    assert 0 < len(short.text) < len(QUESTION)


def test_lists_of_words_become_token_lists(engine: Any) -> None:
    before = STAGES.before
    payload = {
        "inputs": [
            {"name": "QUERY", "datatype": "BYTES", "shape": [1, 1], "data": [QUESTION]},
            {"name": "REQUEST_OUTPUT_LEN", "datatype": "INT32", "shape": [1, 1], "data": [8]},
            {"name": "STOP_WORDS_DICT", "datatype": "BYTES", "shape": [1, 2],
             "data": ["banana", "color of"]},
        ],
    }  # fmt: skip
    path = f"/v2/models/{before}/infer"
    answer = request(engine.endpoint, path, method="POST", payload=payload).json()
    told = {out["name"]: out for out in answer["outputs"]}
    words = told["STOP_WORDS_IDS"]
    count = words["shape"][2]
    tokens, ends = words["data"][:count], words["data"][count:]
    assert words["shape"][:2] == [1, 2] and tokens
    assert [end for end in ends if end != -1][-1] == count
    assert told["BAD_WORDS_IDS"]["shape"] == [1, 2, 0]
    assert told["REQUEST_INPUT_LEN"]["data"] == [len(told["INPUT_ID"]["data"])]
    assert told["OUT_END_ID"]["data"] == [read(FACTS).config["eos_token_id"]]


def test_the_form_is_made_from_what_the_served_ensemble_declares(engine: Any) -> None:
    metadata = inference.metadata(engine.endpoint, "facts")
    form = TrtllmEngineBackend().prompts(engine.endpoint, metadata)
    assert form is not None
    given = form.request({"prompt": QUESTION, "seed": "3"})
    assert isinstance(given, TextRequest)
    answer = complete(engine.endpoint, given)
    assert answer.text.strip() == QUESTION
    assert TrtllmLlmapiBackend().prompts(engine.endpoint, metadata) is None


COUNTING = Path(__file__).with_name("trtllm_counting.py")
DRAFTED = repository.Stages("facts", drafted=True)
FIRST, LAST = 7, 60


@pytest.fixture(params=[True, False], ids=["decoupled", "whole"])
def drafted(request: Any, make_server: Any) -> Any:
    """The repository with a draft model; both engines count, and the draft errs at every fourth."""
    server = make_server()
    options = EngineOptions(streaming=request.param, draft_instances=1)
    both = trtllm_plan.parts_of(options, read(FACTS), read(FACTS))
    written(repository.engine_files(DRAFTED, both, "1.2.1"), server.values)
    for stage in (DRAFTED.before, DRAFTED.after):
        (server.repository / stage / "1" / "tokenizers").symlink_to(tokenizers())
    for name, errs in zip(DRAFTED.engines, (4, 0), strict=True):
        file = server.repository / name / "config.pbtxt"
        config = from_text(file.read_text())
        config.backend = "python"
        config.parameters["errs"].string_value = str(errs)
        config.parameters["last"].string_value = str(LAST)
        file.write_text(str(config))
        (server.repository / name / "1" / "model.py").write_text(COUNTING.read_text())
    server.start()
    for name in DRAFTED.every:
        control.load(server.endpoint, name, timeout=60)
    return server, request.param


def characters(first: int, last: int) -> str:
    """What the tokens `first` to `last` say: the tokenizer's first ones are the printable bytes."""
    return "".join(chr(number + ord("!") - FIRST) for number in range(first, last + 1))


def test_a_draft_model_saves_rounds_and_changes_no_text(drafted: Any) -> None:
    server, _ = drafted
    given = asked("!", stream=False, extra={"max_tokens": 30})
    assert complete(server.endpoint, given).text == characters(FIRST + 1, FIRST + 30)
    stats = request(server.endpoint, f"/v2/models/{DRAFTED.engine}/stats").json()
    rounds = stats["model_stats"][0]["inference_count"]
    assert 30 / 6 <= rounds <= 12, "five proposals a round, of which every fourth token is wrong"


def test_an_answer_ends_with_its_end_token_and_at_a_stop_word(drafted: Any) -> None:
    server, _ = drafted
    ended = complete(server.endpoint, asked("!", stream=False, extra={"max_tokens": 90}))
    assert ended.text == characters(FIRST + 1, LAST)
    stopped = asked("!", stream=False, extra={"max_tokens": 90, "stop_words": ["+"]})
    assert complete(server.endpoint, stopped).text == characters(FIRST + 1, FIRST + ord("+") - 33)


def test_each_round_of_a_draft_model_is_a_piece_of_the_stream(drafted: Any) -> None:
    server, streams = drafted
    pieces: list[str] = []
    given = asked("!", stream=streams, extra={"max_tokens": 30})
    answer = complete(server.endpoint, given, on_text=pieces.append)
    assert answer.text == characters(FIRST + 1, FIRST + 30)
    assert (len([piece for piece in pieces if piece]) > 4) is streams


LLMAPI_STANDIN = Path(__file__).with_name("trtllm_llmapi_standin.py")


def test_the_llm_apis_model_answers_whole_and_as_a_stream(make_server: Any) -> None:
    server = make_server()
    written(llmapi.llmapi_files("facts", LlmapiOptions(), read(FACTS)), server.values)
    (server.repository / "facts" / "1" / "model.py").write_text(LLMAPI_STANDIN.read_text())
    server.start()
    control.load(server.endpoint, "facts", timeout=60)
    form = TrtllmLlmapiBackend().prompts(
        server.endpoint, inference.metadata(server.endpoint, "facts")
    )
    assert form is not None
    pieces: list[str] = []
    given = form.request({"prompt": QUESTION, "max_tokens": "50"})
    assert isinstance(given, TextRequest)
    streamed = complete(server.endpoint, given, on_text=pieces.append)
    assert streamed.text.strip() == QUESTION and len(pieces) > 3
    whole = complete(server.endpoint, asked(stream=False, names=llmapi.LLMAPI_NAMES))
    assert whole.text == QUESTION


def test_every_configuration_is_one_that_the_linter_takes(tmp_path: Path) -> None:
    checkpoint = read(FACTS)
    for version in ("0.9.0", "0.16.0", "1.2.1"):
        configs = repository.engine_configs(STAGES, parts(), version)
        for name, config in configs.items():
            around = Surroundings(directory=name, models=configs)
            found = [v for v in lint(config, around) if v.level is Level.FAIL]
            assert not found, (version, name, found)
    config = llmapi.llmapi_config("facts", LlmapiOptions())
    assert not lint(config, Surroundings(directory="facts"))
    assert json.loads(llmapi.model_yaml(LlmapiOptions(), checkpoint))["model"] == str(FACTS)
