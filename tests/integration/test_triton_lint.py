"""The linter against the real server: both say the same of a configuration."""

from __future__ import annotations

import itertools

import pytest

from console.facts import DeckError, Level
from console.triton import control
from console.triton.lint import Surroundings, lint
from console.triton.repository import from_text

pytestmark = pytest.mark.integration

GOOD = """
backend: "python" max_batch_size: 8
input { name: "NUMBERS" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "SAME_NUMBERS" data_type: TYPE_FP32 dims: [ 4 ] }
"""
NUMBER = itertools.count()

CASES = {
    "good": ("", ""),
    "no-dtype": ("data_type: TYPE_FP32 dims: [ 4 ] }\noutput", "dims: [ 4 ] }\noutput"),
    "no-dims": ("dims: [ 4 ] }\noutput", "}\noutput"),
    "zero-dim": ("dims: [ 4 ] }\noutput", "dims: [ 0 ] }\noutput"),
    "negative-batch": ("max_batch_size: 8", "max_batch_size: -1"),
    "preferred": (
        "max_batch_size: 8",
        "max_batch_size: 8 dynamic_batching { preferred_batch_size: 16 }",
    ),
    "reshape": ("dims: [ 4 ] }\noutput", "dims: [ 4 ] reshape { shape: [ 3 ] } }\noutput"),
    "reshape-ones": ("dims: [ 4 ] }\noutput", "dims: [ 4 ] reshape { shape: [ 2, 2 ] } }\noutput"),
    "gpu": ("max_batch_size", "instance_group { kind: KIND_GPU } max_batch_size"),
    "cpu-with-gpus": (
        "max_batch_size",
        "instance_group { kind: KIND_CPU gpus: 0 } max_batch_size",
    ),
    "no-backend": ('"python"', '"tensorrtllm"'),
    "platform": ('backend: "python"', 'backend: "python" platform: "onnxruntime_onnx"'),
    "other-name": ("backend", 'name: "other" backend'),
    "version": ("max_batch_size", "version_policy { specific { versions: 3 } } max_batch_size"),
    "newer-field": ("max_batch_size", "model_metrics { } max_batch_size"),
    "batching-without-batch": ("max_batch_size: 8", "dynamic_batching { }"),
    "instances-0": ("max_batch_size", "instance_group { count: 0 } max_batch_size"),
    "unnamed": ('input { name: "NUMBERS"', "input {"),
}


@pytest.mark.parametrize("case", CASES)
def test_linter_and_server_agree(serving, case):
    name = f"lint{next(NUMBER)}"
    folder = serving.repository / name
    (folder / "1").mkdir(parents=True)
    model = (serving.repository / "identity" / "1" / "model.py").read_text()
    (folder / "1" / "model.py").write_text(model)
    text = GOOD.replace(*CASES[case], 1)
    (folder / "config.pbtxt").write_text(text)
    files = frozenset({"config.pbtxt", "1/model.py"})
    here = Surroundings(name, files, 0, frozenset({"python"}), (2, 51))
    refused = [v for v in lint(from_text(text), here) if v.level is Level.FAIL]
    try:
        control.load(serving.endpoint, name, timeout=120)
        said = ""
    except DeckError as error:
        said = str(error)
    assert bool(refused) == bool(said), (refused, said)
