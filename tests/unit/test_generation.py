"""Requests for text: bodies, whole and streamed answers, errors inside a stream, hostile servers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from console.facts import DeckError, Endpoint, UsageError
from console.generation import answers, snippets
from console.generation.client import body, complete, path
from console.generation.form import TextForm
from console.generation.probe import probe
from console.planning.script_helper import text_problem
from console.prompts import Names, Style, TextAnswer, TextRequest, Turn
from console.triton.health import probe as health
from console.triton.plain_http import NoAnswer

BANANA = (Turn("system", "Be short."), Turn("user", "What is the color of a banana?"))


def ask(**changes: Any) -> TextRequest:
    return TextRequest(**{"model": "facts", "turns": BANANA, "max_tokens": 8, **changes})


class Server(ThreadingHTTPServer):
    """Answers every POST with what the test put there, and keeps what it was sent."""

    daemon_threads = True
    answer: bytes = b""
    status = 200
    kind = "application/json"
    asked: dict[str, Any]
    headers: dict[str, str]
    where = ""
    location = ""
    gate: threading.Event | None = None
    """Set: the first line of the answer goes at once, the rest when it is set."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.asked = json.loads(self.rfile.read(length))
        self.server.headers = dict(self.headers.items())
        self.server.where = self.path
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.kind)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        head, _, rest = self.server.answer.partition(b"\n\n")
        if self.server.gate is None:
            self.wfile.write(self.server.answer)
            return
        self.wfile.write(head + b"\n\n")
        self.wfile.flush()
        self.server.gate.wait(60)
        self.wfile.write(rest)

    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/v1/health", "/v1/models") else 404)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving(answer: object, **settings: Any) -> Iterator[tuple[Server, Endpoint]]:
    server = Server(("127.0.0.1", 0), Handler)
    server.answer = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    for name, value in settings.items():
        setattr(server, name, value)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server, Endpoint(url, kind="openai")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def events(*told: object, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(event)}\n\n" for event in told]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def delta(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def test_a_chat_sends_its_turns_and_reads_text_reason_and_counts() -> None:
    whole = {
        "choices": [
            {"message": {"role": "assistant", "content": "yellow"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 2},
    }
    with serving(whole) as (server, endpoint):
        got = complete(endpoint, ask(stream=False))
    assert (got.text, got.finish_reason, got.prompt_tokens) == ("yellow", "stop", 12)
    assert server.where == "/v1/chat/completions"
    assert server.asked == {
        "model": "facts",
        "messages": [{"role": turn.role, "content": turn.text} for turn in BANANA],
        "max_tokens": 8,
    }


@pytest.mark.parametrize("status", [200, 307])
def test_an_address_that_is_none_is_not_followed(status: int) -> None:
    said = {"choices": [{"message": {"content": "yellow"}, "finish_reason": "stop"}]}
    with serving(said, status=status, location="http://[") as (_, endpoint):
        if status == 200:
            assert complete(endpoint, ask(stream=False)).text == "yellow"
        else:
            with pytest.raises(DeckError, match="307"):
                complete(endpoint, ask(stream=False))


def test_a_completion_sends_the_last_turn_alone() -> None:
    with serving({"choices": [{"text": " yellow", "finish_reason": "stop"}]}) as (server, endpoint):
        got = complete(endpoint, ask(style=Style.COMPLETION, stream=False))
    assert got.text == " yellow"
    assert server.where == "/v1/completions" and server.asked["prompt"] == BANANA[-1].text


def test_a_stream_is_heard_piece_by_piece_before_it_ends() -> None:
    gate, heard = threading.Event(), []
    told = events(
        delta("one"), delta(" two", "stop"), {"choices": [], "usage": {"completion_tokens": 3}}
    )

    def listen(piece: str) -> None:
        heard.append((piece, gate.is_set()))
        gate.set()

    with serving(told, kind="text/event-stream", gate=gate) as (server, endpoint):
        got = complete(endpoint, ask(), on_text=listen)
    assert heard == [("one", False), (" two", True)]
    assert (got.text, got.finish_reason, got.completion_tokens) == ("one two", "stop", 3)
    assert got.first_text is not None and got.first_text <= got.latency
    assert server.asked["stream_options"] == {"include_usage": True}


def test_a_cancelled_stream_returns_what_has_come() -> None:
    stop = threading.Event()
    with serving(events(delta("one"), delta("two")), kind="text/event-stream", gate=stop) as (
        _,
        endpoint,
    ):

        def listen(piece: str) -> None:
            stop.set()

        got = complete(endpoint, ask(), on_text=listen, cancelled=stop.is_set)
    assert (got.text, got.finish_reason) == ("one", "cancelled")


@pytest.mark.parametrize("error", [{"message": "no such model"}, "no such model"])
def test_an_error_inside_a_stream_is_told(error: object) -> None:
    told = events(delta("o"), {"error": error})
    with (
        serving(told, kind="text/event-stream") as (_, endpoint),
        pytest.raises(DeckError, match="refused") as raised,
    ):
        complete(endpoint, ask())
    assert raised.value.why == "no such model"


@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": "max_tokens is too large", "code": 400}},
        {"object": "error", "message": "max_tokens is too large"},
        {"detail": "max_tokens is too large"},
        b"max_tokens is too large",
    ],
)
def test_a_refusal_is_told_in_the_servers_words(told: object) -> None:
    with (
        serving(told, status=400) as (_, endpoint),
        pytest.raises(DeckError, match="refused the request") as raised,
    ):
        complete(endpoint, ask())
    assert raised.value.why == "max_tokens is too large"


def test_tritons_generate_takes_the_names_of_the_model() -> None:
    names = Names(sampling="sampling_parameters", without_prompt="exclude_input_in_output")
    with serving({"model_name": "facts", "text_output": "yellow"}) as (server, endpoint):
        got = complete(endpoint, ask(style=Style.GENERATE, stream=False, names=names))
    assert got.text == "yellow" and server.where == "/v2/models/facts/generate"
    assert server.asked == {
        "text_input": BANANA[-1].text,
        "stream": False,
        "sampling_parameters": '{"max_tokens": 8}',
        "exclude_input_in_output": True,
    }


def test_sampling_parameters_travel_under_their_prefix() -> None:
    made = body(
        ask(style=Style.GENERATE, names=Names(prefix="sampling_param_", stream="streaming"))
    )
    assert made["sampling_param_max_tokens"] == 8 and made["streaming"] is True
    assert path(ask(style=Style.GENERATE)) == "/v2/models/facts/generate_stream"


def test_a_generate_answer_without_the_named_output_says_what_it_has() -> None:
    with (
        serving({"model_name": "facts", "text": "yellow"}) as (_, endpoint),
        pytest.raises(DeckError, match="no text_output") as raised,
    ):
        complete(endpoint, ask(style=Style.GENERATE, stream=False))
    assert raised.value.why == "it has model_name, text"


@pytest.mark.parametrize(
    ("style", "told"),
    [
        (Style.GENERATE, {"text_output": ["An error occurred: no memory"]}),
        (Style.CHAT, {"choices": [{"message": {"content": "An error occurred: no memory"}}]}),
    ],
)
def test_an_error_in_an_answers_place_is_told_and_not_shown(
    style: Style, told: dict[str, Any]
) -> None:
    form, shown = TextForm("facts", style, stream=False, never="An error occurred:"), []
    with (
        serving(told) as (_, endpoint),
        pytest.raises(DeckError, match="answered with an error") as raised,
    ):
        complete(endpoint, form.request({"prompt": "Hi"}), on_text=shown.append)
    assert raised.value.why == "no memory" and not shown


@pytest.mark.parametrize(
    "pieces",
    [
        ("An error occurred: no", " memory"),
        ("", "\n", "An err", "or occurred", ":", " no memory"),
    ],
)
def test_an_error_that_comes_in_pieces_is_told_and_not_shown(pieces: tuple[str, ...]) -> None:
    form = TextForm("facts", never="An error occurred:")
    shown: list[str] = []
    answer = events(*map(delta, pieces))
    with (
        serving(answer, kind="text/event-stream") as (_, endpoint),
        pytest.raises(DeckError, match="answered with an error") as raised,
    ):
        complete(endpoint, form.request({"prompt": "Hi"}), on_text=shown.append)
    assert raised.value.why == "no memory" and not shown


@pytest.mark.parametrize("pieces", [("An err", "and boy"), ("An err",), ("An", " error occurred")])
def test_an_answer_that_begins_like_an_error_is_an_answer(pieces: tuple[str, ...]) -> None:
    form = TextForm("facts", never="An error occurred:")
    shown: list[str] = []
    answer = events(*map(delta, pieces))
    with serving(answer, kind="text/event-stream") as (_, endpoint):
        got = complete(endpoint, form.request({"prompt": "Hi"}), on_text=shown.append)
    assert got.text == "".join(shown) == "".join(pieces)


def test_nemos_servers_nest_their_texts() -> None:
    with serving({"choices": [{"text": [["yellow"]]}]}) as (_, endpoint):
        assert complete(endpoint, ask(style=Style.COMPLETION, stream=False)).text == "yellow"


def test_control_characters_of_an_answer_are_cleaned() -> None:
    told = {"choices": [{"message": {"content": "\x1b[31myellow\x07"}}]}
    with serving(told) as (_, endpoint):
        got = complete(endpoint, ask(stream=False))
    assert "\x1b" not in got.text and "\x07" not in got.text and "yellow" in got.text


def test_an_endless_answer_is_not_read_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWER_CAP", 1000)
    with (
        serving(events(*[delta("x" * 100)] * 20), kind="text/event-stream") as (_, endpoint),
        pytest.raises(DeckError, match="larger than 1000 bytes"),
    ):
        complete(endpoint, ask())


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    gate = threading.Event()
    with (
        serving(events(delta("one"), delta("two")), kind="text/event-stream", gate=gate) as (_, at),
        pytest.raises(NoAnswer, match=r"within 0\.3 s"),
    ):
        try:
            complete(at, ask(), timeout=0.3)
        finally:
            gate.set()


def test_nothing_that_listens_is_told() -> None:
    with pytest.raises(NoAnswer, match="nothing listens"):
        complete(Endpoint("http://127.0.0.1:9"), ask())


def test_the_token_goes_as_a_bearer_to_openai_servers(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with serving({"choices": []}) as (server, endpoint):
        at = Endpoint(endpoint.url, kind="openai", token_file=token)
        complete(at, ask(stream=False))
    assert server.headers["Authorization"] == "Bearer secret"


def test_the_health_of_an_openai_server_lists_its_models() -> None:
    with serving({"data": [{"id": "facts"}, {"id": "facts-lora"}]}) as (_, endpoint):
        found = health(endpoint)
    assert found.live and [(m.name, m.ready) for m in found.models] == [
        ("facts", True),
        ("facts-lora", True),
    ]


@pytest.mark.parametrize(
    ("answer", "speed"),
    [
        (TextAnswer("m", "", completion_tokens=11, latency=2.0, first_text=1.0), 10.0),
        (TextAnswer("m", "", completion_tokens=10, latency=2.0), 5.0),
        (TextAnswer("m", "", latency=2.0), None),
        (TextAnswer("m", "", completion_tokens=1, latency=2.0, first_text=2.0), None),
    ],
)
def test_tokens_a_second_count_after_the_first_text(
    answer: TextAnswer, speed: float | None
) -> None:
    assert answer.tokens_a_second == speed


@pytest.mark.parametrize(
    ("style", "told"),
    [
        (Style.CHAT, {"choices": [{"message": {"content": " yellow"}}]}),
        (Style.COMPLETION, {"choices": [{"text": " yellow"}]}),
        (Style.GENERATE, {"text_output": " yellow"}),
    ],
)
def test_a_scripts_probe_finds_the_text_of_each_style(style: Style, told: object) -> None:
    made = probe(ask(style=style), "banana", "yellow")
    with serving(told) as (server, endpoint):
        assert text_problem(endpoint.url, made.model_dump(mode="json")) is None
    assert server.where == made.path
    assert not server.asked.get("stream")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"choices": [{"message": {"content": "red"}}]}, "the answer is 'red', expected 'yellow'"),
        ({"choices": []}, "the answer has no choices.0.message.content"),
    ],
)
def test_a_scripts_probe_says_how_an_answer_differs(told: object, said: str) -> None:
    made = probe(ask(), "banana", "yellow")
    with serving(told) as (_, endpoint):
        assert text_problem(endpoint.url, made.model_dump(mode="json")) == said


def test_an_empty_answer_proves_nothing() -> None:
    made = probe(ask(), "anything")
    with serving({"choices": [{"message": {"content": " "}}]}) as (_, endpoint):
        assert text_problem(endpoint.url, made.model_dump(mode="json")) == "the answer is empty"


def test_a_probe_is_asked_without_sampling_noise() -> None:
    assert probe(ask(), "x").body["temperature"] == 0.0


def test_a_form_asks_for_text_and_leaves_out_what_is_empty() -> None:
    form = TextForm("facts")
    values = {field.name: field.default for field in form.fields} | {"prompt": "Hi", "system": "x"}
    asked = form.request(values)
    assert asked.turns == (Turn("system", "x"), Turn("user", "Hi"))
    assert asked.sampling == {"max_tokens": 128, "temperature": 0.0}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("prompt", " ", "the prompt is empty"),
        ("max_tokens", "many", "max_tokens is not a number"),
        ("max_tokens", "inf", "max_tokens is not a number"),
        ("temperature", "nan", "temperature is not a number"),
        ("max_tokens", "1.5", "max_tokens is not a whole number"),
    ],
)
def test_a_wrong_field_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TextForm("facts").request({"prompt": "Hi", name: value})


def test_a_form_offers_only_what_a_triton_model_declares() -> None:
    form = TextForm("facts", Style.GENERATE, declared=frozenset({"text_input", "max_tokens"}))
    assert [field.name for field in form.fields] == ["prompt", "max_tokens"]


@pytest.mark.parametrize("style", list(Style))
def test_a_copied_request_gives_the_same_answer(style: Style) -> None:
    told = {"text_output": "yellow", "choices": []}
    with serving(told) as (server, endpoint):
        for argv in (
            ["bash", "-c", snippets.curl(endpoint, ask(style=style, stream=False))],
            [sys.executable, "-c", snippets.python(endpoint, ask(style=style, stream=False))],
        ):
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            assert json.loads(done.stdout) == told
            assert server.asked == body(ask(style=style, stream=False))
