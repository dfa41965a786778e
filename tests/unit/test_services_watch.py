"""What a supervisor says of the requests that it sends from time to time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from console.planning.plan import (
    Command,
    Expected,
    Inference,
    SavedTensor,
    ServiceSpec,
    TextAnswered,
)
from console.services import record, watch

ANSWERS = {
    "/v2/models/digits/infer": {
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}]
    },
    "/right": {"sentences": " yellow"},
    "/error": {"sentences": "An error occurred: CUDA error: an illegal memory access"},
    "/empty": {"sentences": ""},
    "/other": {"text": "yellow"},
}


@pytest.fixture
def url() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(ANSWERS[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def served(url: str, folder: Path) -> record.Record:
    spec = ServiceSpec(
        name="triton", command=Command(argv=("server",)), http_url=url, repository=str(folder)
    )
    return record.Record("digits-s1", "digits", 1, spec, {}, "", 0.0, "here")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/right", ""),
        ("/error", "the answer is an error: 'An error occurred: CUDA error"),
        ("/empty", "the answer is empty"),
        ("/other", "the answer has no sentences"),
    ],
)
def test_an_error_in_an_answers_place_is_no_sign_of_life(
    url: str, tmp_path: Path, path: str, said: str
) -> None:
    probe = TextAnswered(
        title="x", path=path, body={}, answer="sentences", equals="blue", never="An error occurred:"
    )
    assert (watch._text_problem(served(url, tmp_path), probe) or "").startswith(said)
    assert said or watch._text_problem(served(url, tmp_path), probe) is None


def test_an_expected_answer_that_was_removed_is_told_and_ends_no_watch(
    url: str, tmp_path: Path
) -> None:
    made = served(url, tmp_path)
    probe = Inference(
        title="a request is answered",
        model="digits",
        inputs=(SavedTensor(name="x", dtype="FP32", shape=(1,), values=(0.0,)),),
        expect=(Expected(output="y", near_file=str(tmp_path / "gone.npy")),),
    )
    assert "gone.npy" in (watch._infer(made, probe) or "")
