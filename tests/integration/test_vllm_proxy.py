"""The model that stands before vLLM, in a real Triton; a small server that speaks OpenAI behind it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from backends.language import vllm_proxy, vllm_triton
from backends.language.vllm_options import VllmOptions
from backends.vllm import VllmBackend
from console.checkpoints.read import read
from console.facts import DeckError
from console.generation.client import complete
from console.planning.deployment import Deployment
from console.planning.variables import expand
from console.prompts import Style, TextRequest, Turn
from console.triton import control, inference
from console.triton.plain_http import request
from tests.support import written

pytestmark = pytest.mark.integration

FACTS = Path(__file__).parents[2] / "examples" / "facts"
WORDS = ["one", " two", " three"]
ODD = 13
"""A seed that is answered with what no OpenAI server says."""
ENDLESS = 17
"""A seed whose answer ends when nobody reads it any more."""


class OpenAi(BaseHTTPRequestHandler):
    """Chat completions, whole and as events, as vLLM 0.32 sends them."""

    asked: list[dict[str, Any]]
    gate: threading.Event
    left: threading.Event
    """That the reader of an endless answer has gone."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({**body, "path": self.path})
        if body.get("max_tokens", 1) > 1000:
            self.answer(400, {"error": {"message": "max_tokens is too large", "code": 400}})
        elif body.get("seed") == ODD:
            self.answer(200, {"choices": ["no object"]})
        elif body["stream"]:
            self.events()
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 7, "completion_tokens": 3}
            self.answer(200, {"choices": [choice], "usage": usage})

    def answer(self, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        if self.asked[-1].get("seed") == ENDLESS:
            self.endless()
            return
        for number, word in enumerate(WORDS):
            if number == len(WORDS) - 1 and not self.gate.wait(60):
                return  # nobody has seen the words before it: the answer stays without an end
            self.event({"choices": [{"delta": {"content": word}, "finish_reason": None}]})
        self.event({"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
        self.wfile.write(b"data: [DONE]\n\n")

    def endless(self) -> None:
        try:
            while True:
                self.event({"choices": [{"delta": {"content": " more"}, "finish_reason": None}]})
                time.sleep(0.01)
        except OSError:
            self.left.set()

    def event(self, value: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def behind() -> Iterator[ThreadingHTTPServer]:
    OpenAi.asked, OpenAi.gate, OpenAi.left = [], threading.Event(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenAi)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def proxy(make_module_server: Any, behind: ThreadingHTTPServer) -> Any:
    """The plan's own repository, in a running Triton."""
    server = make_module_server()
    made = Deployment(name="facts", backend="vllm", checkpoints={"model": str(FACTS)})
    options = VllmOptions(serve_as="proxy", device="cpu")
    values = {**server.values, "work": str(server.repository.parent)}
    written(vllm_proxy.repository(made, options, read(FACTS)), values)
    address(server, behind.server_port)
    server.start()
    control.load(server.endpoint, "facts", timeout=60)
    return server


def address(server: Any, port: int) -> None:
    file = Path(expand(vllm_proxy.SERVER_FILE, {"work": str(server.repository.parent)}))
    file.write_text(f"http://127.0.0.1:{port}\n")


def asked(**changes: Any) -> TextRequest:
    return TextRequest(
        model="facts", turns=(Turn("user", "Count."),), style=Style.GENERATE,
        names=vllm_triton.NAMES, **changes,
    )  # fmt: skip


def test_a_whole_answer_comes_with_its_counts(proxy: Any) -> None:
    told = complete(proxy.endpoint, asked(stream=False, max_tokens=20, temperature=0.5))
    assert told.text == "one two three"
    assert (told.finish_reason, told.prompt_tokens, told.completion_tokens) == ("stop", 7, 3)
    sent = OpenAi.asked[-1]
    assert sent["path"] == "/v1/chat/completions" and sent["temperature"] == 0.5
    assert sent["messages"] == [{"role": "user", "content": "Count."}]


def test_a_stream_comes_before_it_is_whole(proxy: Any) -> None:
    """The server holds its last word back until the first has been seen."""
    pieces: list[str] = []
    OpenAi.gate.clear()

    def heard(piece: str) -> None:
        pieces.append(piece)
        OpenAi.gate.set()

    told = complete(proxy.endpoint, asked(stream=True), on_text=heard)
    assert "".join(pieces) == told.text == "one two three" and len(pieces) == 3
    assert (told.finish_reason, told.completion_tokens) == ("stop", 3)


def test_an_answer_whose_client_has_gone_is_generated_no_further(proxy: Any) -> None:
    parts = urlsplit(proxy.endpoint.url)
    client = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    body = {"text_input": "x", "stream": True, "sampling_parameters": f'{{"seed": {ENDLESS}}}'}
    client.request("POST", "/v2/models/facts/generate_stream", json.dumps(body))
    response = client.getresponse()
    assert response.readline().startswith(b"data:") and not OpenAi.left.is_set()
    response.close()
    client.close()
    assert OpenAi.left.wait(60)


def test_the_prompt_stands_before_a_whole_answer_unless_it_is_excluded(proxy: Any) -> None:
    body = {"text_input": "Count: "}
    answer = request(proxy.endpoint, "/v2/models/facts/generate", method="POST", payload=body)
    assert answer.json()["text_output"] == "Count: one two three"


def test_what_the_server_refuses_is_told_in_its_words(proxy: Any) -> None:
    with pytest.raises(DeckError, match="max_tokens is too large"):
        complete(proxy.endpoint, asked(stream=False, max_tokens=5000))


def test_what_a_client_may_not_say_is_not_sent(proxy: Any) -> None:
    body = {"text_input": "x", "sampling_parameters": '{"model": "other", "top_p": 0.5}'}
    request(proxy.endpoint, "/v2/models/facts/generate", method="POST", payload=body)
    assert (OpenAi.asked[-1]["model"], OpenAi.asked[-1]["top_p"]) == ("facts", 0.5)


def test_sampling_parameters_of_another_form_are_refused(proxy: Any) -> None:
    body = {"text_input": "x", "sampling_parameters": "[1]"}
    answer = request(proxy.endpoint, "/v2/models/facts/generate", method="POST", payload=body)
    assert not answer.ok and "JSON object" in answer.words


def generated(proxy: Any, **sampling: Any) -> Any:
    body = {"text_input": "Count.", "sampling_parameters": json.dumps(sampling)}
    where = "/v2/models/facts/generate"
    return request(proxy.endpoint, where, method="POST", payload=body, timeout=60)


def test_an_answer_of_an_unknown_shape_is_told_and_nobody_waits(proxy: Any) -> None:
    answer = generated(proxy, seed=ODD)
    assert not answer.ok and "no attribute" in answer.words


def test_several_answers_are_refused_for_one_would_be_lost(proxy: Any) -> None:
    answer = generated(proxy, n=2)
    assert not answer.ok and "one answer" in answer.words


def test_a_server_that_is_gone_is_told_and_found_again(
    proxy: Any, behind: ThreadingHTTPServer
) -> None:
    address(proxy, 1)
    with pytest.raises(DeckError, match="refused"):
        complete(proxy.endpoint, asked(stream=False))
    address(proxy, behind.server_port)
    assert complete(proxy.endpoint, asked(stream=False)).text == "one two three"


def test_the_served_model_gets_the_form_of_the_vllm_backend(proxy: Any) -> None:
    model = inference.metadata(proxy.endpoint, "facts")
    form = VllmBackend().prompts(proxy.endpoint, model)
    assert form is not None
    made = form.request({"prompt": "Count."})
    assert isinstance(made, TextRequest) and made.names == vllm_triton.NAMES
