"""Deployment files: what is right loads, what is wrong is named with file, key and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.facts import UsageError
from console.planning.deployment import check_name, load, loads

GOOD = """\
version = 1
name = "digits"       # the deployment
backend = "onnx"

[checkpoints]
model = "digits.nemo"

[server]
http_port = 0
grpc_port = 0
metrics_port = 0

[[verify]]
input = "a.wav"
expect = "one two"
"""


def problem(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        loads(text, Path("/deployments/digits.toml"))
    return str(caught.value)


def test_paths_are_relative_to_the_file() -> None:
    deployment = loads(GOOD, Path("/deployments/digits.toml"))
    assert deployment.checkpoints == {"model": "/deployments/digits.nemo"}
    assert deployment.verify[0].input == "/deployments/a.wav"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("http_port = 0", "http_port = 70000", "line 9, server.http_port"),
        ("http_port = 0", "htp_port = 0", "line 9, server.htp_port"),
        ('backend = "onnx"', "", "backend: Field required"),
        ('name = "digits"', 'name = "../x"', "line 2, name"),
        ('expect = "one two"', "expect = 3", "line 15, verify.0.expect"),
        ("version = 1", "version = 9", "line 1, version"),
        ("metrics_port = 0", 'metrics_port = 0\naddress = "0.0.0.0"', "set expose = true"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(old: str, new: str, expected: str) -> None:
    message = problem(GOOD.replace(old, new))
    assert expected in message
    assert "/deployments/digits.toml" in message


def test_broken_toml_says_where() -> None:
    assert "line 2" in problem("a = 1\nb = = 2\n")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the deployment file"):
        load(tmp_path / "nothing.toml")


def test_a_file_that_is_not_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load(path)


@given(st.text(max_size=140))
def test_an_accepted_name_is_one_safe_path_component(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    assert Path("/base", name).parent == Path("/base")
    assert Path("/base", name).resolve().parent == Path("/base")
    assert not name.startswith((".", "-"))
