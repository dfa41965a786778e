"""The configuration messages come without the client's gRPC, and are the client's own."""

from __future__ import annotations

import subprocess
import sys


def run(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_making_a_configuration_loads_neither_grpc_nor_numpy() -> None:
    script = (
        "import sys; from console.triton import repository; repository.data_type('FP32');"
        "print([m for m in ('grpc', 'numpy', 'tritonclient.grpc') if m in sys.modules])"
    )
    assert run(script) == "[]"


def test_the_client_uses_the_same_messages_when_it_is_loaded_later() -> None:
    script = (
        "from console.triton import messages; ours = messages.model_config();"
        "from tritonclient.grpc import model_config_pb2, service_pb2;"
        "assert model_config_pb2 is ours;"
        "service_pb2.ModelConfigResponse(config=ours.ModelConfig(name='digits'));"
        "print('same')"
    )
    assert run(script) == "same"
