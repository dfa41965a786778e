"""Triton's log lines, in and out of its grammar, and what they mean."""

from __future__ import annotations

import json
import re
import string
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.triton import logs
from console.triton.logs import Severity, parse

KNOWLEDGE = tomllib.loads(
    (Path(logs.__file__).parent / "log_knowledge.toml").read_text(encoding="utf-8")
)


def test_the_default_format_is_read():
    line = parse('E1121 00:02:56.545741 30405 main.cc:245] "failed to start GRPC service: x"')
    assert (line.severity, line.pid, line.place) == (Severity.ERROR, 30405, "main.cc:245")
    assert line.time == datetime(2000, 11, 21, 0, 2, 56, 545741, tzinfo=UTC)
    assert line.message == "failed to start GRPC service: x"


def test_the_iso_format_is_read():
    line = parse('2026-11-21T00:00:04Z W 26013 metrics.cc:798] "DCGM unable to start"')
    assert (line.severity, line.place) == (Severity.WARNING, "metrics.cc:798")
    assert line.time == datetime(2026, 11, 21, 0, 0, 4, tzinfo=UTC)


def test_escaped_line_breaks_in_a_message_become_real_ones():
    line = parse('I1121 00:00:00.000000 1 a.cc:1] "At:\\n  /m.py(4): initialize\\n"')
    assert line.message == "At:\n  /m.py(4): initialize\n"


def test_a_message_cannot_act_on_the_terminal():
    line = parse('I1121 00:00:00.000000 1 m.py:1] "\\u001B[31mred\\u001b]0;title\\u0007"')
    assert "\x1b" not in line.message
    assert parse("\x1b[31mRED\x1b]0;title\x07").message == "RED"


@pytest.mark.parametrize(
    "text",
    [
        "+---------+---------+",
        "Signal (15) received.",
        "  File model.py, line 3",
        "",
    ],
)
def test_what_stands_outside_the_grammar_keeps_its_text_and_no_severity(text):
    assert (parse(text).message, parse(text).severity) == (text, Severity.NONE)


@pytest.mark.parametrize(
    "text",
    [
        "error: creating server: Internal - failed to load all models",
        '[libprotobuf ERROR x.cc:337] Error parsing text-format inference.ModelConfig: 4:1: Expected ",".',
        "tritonserver: unrecognized option '--bogus=1'",
    ],
)
def test_errors_outside_the_grammar_are_errors(text):
    assert parse(text).severity is Severity.ERROR


@pytest.mark.parametrize(
    "text",
    [
        'E1121 00:02:56.545741 3 server.cc:241] "CudaDriverHelper has not been initialized."',
        "Error: Failed to initialize NVML",
    ],
)
def test_alarming_lines_of_a_host_without_gpu_are_known_as_harmless(text):
    assert parse(text).harmless
    assert logs.explain([text]) == ()


@pytest.mark.parametrize(
    ("line", "identifier", "words"),
    [
        (
            'E1121 00:02:56.545741 3 main.cc:257] "failed to start HTTP service: Unavailable - '
            "Socket '127.0.0.1:18000' already in use \"",
            "port-taken",
            "the HTTP port 127.0.0.1:18000 is in use",
        ),
        (
            "/x/triton_python_backend_stub: error while loading shared libraries: "
            "libpython3.12.so.1.0: cannot open shared object file: No such file or directory",
            "libpython",
            "does not find libpython3.12.so.1.0",
        ),
        (
            "I1121 00:00:00.000000 9 pb_stub.cc:2105]  Failed to preinitialize Python stub: "
            "Python model file not found in '/r/m/1/model.py'",
            "model-file-missing",
            "there is no /r/m/1/model.py",
        ),
        (
            "E1121 00:00:00.000000 9 model_lifecycle.cc:1] \"failed to load 'm' version 1: "
            "Internal: ModuleNotFoundError: No module named 'nosuchmod'\\n\\nAt:\\n\"",
            "module-missing",
            "needs the Python module nosuchmod",
        ),
        (
            "[libprotobuf ERROR x.cc:337] Error parsing text-format inference.ModelConfig: 2:14: "
            'Message type "inference.ModelConfig" has no field named "max_batchsize".',
            "config-field",
            "unknown field max_batchsize",
        ),
        (
            "[libprotobuf ERROR x.cc:337] Error parsing text-format inference.ModelConfig: 2:17: "
            "Expected integer, got: $",
            "config-syntax",
            "line 2, column 17",
        ),
        (
            "failed to load 'a' version 1: Internal: RuntimeError: weights not found: /x.onnx",
            "initialize",
            "model a did not load",
        ),
        ("tritonserver: unrecognized option '--bogus=1'", "option", "--bogus=1"),
    ],
)
def test_known_failures_are_told_in_words(line, identifier, words):
    (found,) = logs.explain([line])
    assert found.id == identifier
    assert words in found.what
    assert found.why
    assert found.fix


def test_a_cause_comes_before_its_consequence():
    found = logs.explain(
        [
            "failed to load 'a' version 1: Internal: RuntimeError: no",
            "failed to load 'a' version 1: Internal: RuntimeError: no",
            "error: creating server: Internal - failed to load all models",
        ]
    )
    assert [(e.id, e.line) for e in found] == [("initialize", 1), ("models", 3)]


@pytest.mark.parametrize("entry", KNOWLEDGE["failure"], ids=lambda e: e["id"])
def test_every_known_failure_fills_its_words_from_its_own_pattern(entry):
    used = {
        name
        for words in (entry["what"], entry["why"], entry["fix"])
        for _, name, _, _ in string.Formatter().parse(words)
        if name
    }
    assert used <= set(re.compile(entry["pattern"]).groupindex)


@given(st.text(max_size=200))
def test_any_line_is_read_without_an_error_or_a_control_character(text):
    line = parse(text)
    assert not any(c < " " and c not in "\n\t" for c in line.message)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf")), max_size=80))
def test_a_quoted_message_comes_back_as_the_server_meant_it(text):
    framed = f"I1121 00:00:00.000000 1 a.cc:1] {json.dumps(text)}"
    if not any(s in text for s in ("token", "secret", "pass", "key", "bearer", "://")):
        assert parse(framed).message == logs.redact(logs.clean(text, multiline=True))
