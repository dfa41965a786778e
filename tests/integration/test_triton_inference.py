"""Requests to the real server: metadata, tensors of each kind, errors in words, snippets that run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from console.facts import (
    DeckError,
    Endpoint,
    InferenceRequest,
    TensorSpec,
    TensorValue,
    UsageError,
)
from console.planning.plan import Expected
from console.triton import control, health, inference, snippets, verify
from console.triton.plain_http import NoAnswer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def identity(serving) -> Endpoint:
    control.load(serving.endpoint, "identity")
    return serving.endpoint


def numbers(*values: float) -> TensorValue:
    return TensorValue("NUMBERS", "FP32", (len(values),), values)


def text(*values: str) -> TensorValue:
    return TensorValue("TEXT", "BYTES", (len(values),), values)


def test_metadata_tells_optional_inputs_and_our_parameters(identity):
    told = inference.metadata(identity, "identity")
    assert told.inputs == (
        TensorSpec("NUMBERS", "FP32", (-1,), optional=True),
        TensorSpec("TEXT", "BYTES", (-1,), optional=True),
    )
    assert told.parameters["tritondeck_example"] == "identity"
    assert (told.versions, told.max_batch_size) == (("1",), 0)


def test_an_unknown_model_is_said_in_words(identity):
    with pytest.raises(UsageError, match="does not serve model ghost"):
        inference.metadata(identity, "ghost")
    with pytest.raises(UsageError, match="does not serve model ghost"):
        inference.infer(identity, InferenceRequest("ghost", (numbers(1),)))


def test_numbers_and_text_come_back_as_they_went(identity):
    answer = inference.infer(
        identity, InferenceRequest("identity", (numbers(1.5, -2.0), text("één", "")))
    )
    given = {o.name: (o.dtype, o.shape, o.values) for o in answer.outputs}
    assert given["SAME_NUMBERS"] == ("FP32", (2,), (1.5, -2.0))
    assert given["SAME_TEXT"] == ("BYTES", (2,), ("één", ""))
    assert (answer.version, answer.latency > 0) == ("1", True)


def test_only_the_asked_output_is_answered(identity):
    request = InferenceRequest("identity", (numbers(7),), outputs=("SAME_NUMBERS",))
    assert [o.name for o in inference.infer(identity, request).outputs] == ["SAME_NUMBERS"]


def test_a_file_becomes_one_bytes_element(identity, tmp_path):
    file = tmp_path / "a.wav"
    file.write_bytes(b"RIFF\0\xff\n")
    request = InferenceRequest("identity", (TensorValue("TEXT", "BYTES", (1,), file=file),))
    answer = inference.infer(identity, request)
    assert answer.outputs[1].values == ("RIFF\0\ufffd\n",)


def test_an_npy_file_becomes_a_numeric_tensor(identity, tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.arange(5, dtype=np.float32))
    request = InferenceRequest("identity", (TensorValue("NUMBERS", "FP32", (5,), file=file),))
    assert inference.infer(identity, request).outputs[0].values == (0, 1, 2, 3, 4)


def test_what_the_model_does_not_take_is_refused_in_the_servers_words(identity):
    with pytest.raises(UsageError, match="unexpected inference input 'Z'"):
        wrong = TensorValue("Z", "FP32", (1,), (1.0,))
        inference.infer(identity, InferenceRequest("identity", (wrong,)))
    with pytest.raises(UsageError, match="data-type is 'INT32'"):
        wrong = TensorValue("NUMBERS", "INT32", (1,), (1,))
        inference.infer(identity, InferenceRequest("identity", (wrong,)))


def test_a_request_that_takes_too_long_ends_at_its_time_limit(serving):
    control.load(serving.endpoint, "slow")
    started = time.monotonic()
    with pytest.raises(NoAnswer):
        wait = TensorValue("SECONDS", "FP32", (1,), (8.0,))
        inference.infer(serving.endpoint, InferenceRequest("slow", (wait,)), timeout=1)
    assert time.monotonic() - started < 8
    wait = TensorValue("SECONDS", "FP32", (1,), (0.0,))
    assert inference.infer(serving.endpoint, InferenceRequest("slow", (wait,))).outputs


def test_nothing_listening_is_said_without_noise(capfd):
    with pytest.raises(NoAnswer, match="nothing listens"):
        inference.infer(Endpoint("http://127.0.0.1:9"), InferenceRequest("m", (numbers(1),)))
    assert capfd.readouterr() == ("", "")


def test_an_address_with_a_trailing_slash_or_without_a_scheme_works(identity):
    for url in (identity.url + "/", identity.url.removeprefix("http://")):
        assert inference.infer(Endpoint(url), InferenceRequest("identity", (numbers(1),))).outputs


def test_a_dead_model_process_is_called_dead(make_server):
    server = make_server()
    server.add("identity")
    server.start()
    control.load(server.endpoint, "identity")
    stub = next(p for p in server.members() if "python_backend_stub" in _command(p))
    os.kill(stub, signal.SIGKILL)
    with pytest.raises(DeckError, match="has died"):
        inference.infer(server.endpoint, InferenceRequest("identity", (numbers(1),)))
    assert health.model_ready(server.endpoint, "identity"), "the server still calls it ready"


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_right_answer_is_right_and_a_wrong_one_says_what_differs(identity):
    answer = inference.infer(identity, InferenceRequest("identity", (numbers(1, 2), text("one"))))
    right = (
        Expected(output="SAME_TEXT", equals=("one",)),
        Expected(output="SAME_NUMBERS", near=(1.00001, 2.0), shape=(-1,)),
    )
    assert verify.judge(answer, right) is None
    wrong = verify.judge(answer, (Expected(output="SAME_TEXT", equals=("two",)),))
    assert wrong == "SAME_TEXT: 'one', expected 'two'"


# ---------------------------------------------------------------------------- snippets


def requests(folder: Path) -> dict[str, InferenceRequest]:
    wav = folder / "it's a $HOME `file`.wav"
    wav.write_bytes(bytes(range(256)) * 300)
    letters = folder / "letters"
    letters.write_text("hällo\n'\"")
    array = folder / "a.npy"
    np.save(array, np.linspace(0, 1, 6, dtype=np.float32))
    np_value = TensorValue("NUMBERS", "FP32", (6,), file=array)
    return {
        "values": InferenceRequest("identity", (numbers(1, 2.5), text("it's", 'a "$x"\n é'))),
        "file": InferenceRequest("identity", (TensorValue("TEXT", "BYTES", (1,), file=letters),)),
        "both": InferenceRequest(
            "identity", (TensorValue("TEXT", "BYTES", (1,), file=letters), np_value)
        ),
        "mixed": InferenceRequest(
            "identity",
            (np_value, text("é", "$(false)")),
            outputs=("SAME_TEXT", "SAME_NUMBERS"),
            parameters={"note": "it's"},
        ),
        "binary": InferenceRequest(
            "identity",
            (TensorValue("TEXT", "BYTES", (1,), file=wav), numbers(3)),
            outputs=("SAME_NUMBERS",),
        ),
    }


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("kind", ["values", "file", "both", "mixed", "binary"])
def test_the_curl_command_gives_the_same_answer_in_a_shell(identity, tmp_path, kind, shell):
    request = requests(tmp_path)[kind]
    command = snippets.curl(identity, request)
    done = subprocess.run([shell, "-eu"], input=command.encode(), capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert "error" not in told, told
    given = {o["name"]: tuple(o["data"]) for o in told["outputs"]}
    expected = {o.name: o.values for o in inference.infer(identity, request).outputs}
    assert given == expected


def test_the_curl_command_is_clean_for_shellcheck(identity, tmp_path):
    checker = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    for request in requests(tmp_path).values():
        script = "#!/bin/sh\n" + snippets.curl(identity, request) + "\n"
        done = subprocess.run(
            [checker, "--severity=warning", "-"], input=script.encode(), capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("kind", ["values", "file", "both", "mixed", "binary"])
def test_the_python_program_gives_the_same_answer(identity, tmp_path, kind):
    request = requests(tmp_path)[kind]
    program = tmp_path / "ask.py"
    program.write_text(snippets.python(identity, request), encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, check=True)
    expected = ""
    for output in inference.infer(identity, request).outputs:
        values = list(output.values)
        shown = values if output.dtype == "BYTES" else np.array(values, np.float32)
        expected += f"{output.name} {shown}\n"
    assert done.stdout.decode() == expected
