"""Runs inside Triton in place of the LLM API's model.py, behind the same tensors: it answers with the
prompt's words, one a response when it is asked to stream, at most as many as are asked for."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        file = Path(args["model_repository"], args["model_version"], "model.yaml")
        assert json.loads(file.read_text())["backend"] == "pytorch"

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            given = pb_utils.get_input_tensor_by_name
            text = given(request, "text_input").as_numpy()[0].decode()
            limit = given(request, "sampling_param_max_tokens").as_numpy()[0]
            words = text.split()[:limit]
            streaming = given(request, "streaming")
            pieces = [" ".join(words)]
            if streaming is not None and streaming.as_numpy()[0]:
                pieces = [word + " " for word in words]
            for piece in pieces:
                out = pb_utils.Tensor("text_output", np.array([piece], dtype=object))
                sender.send(pb_utils.InferenceResponse([out]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
