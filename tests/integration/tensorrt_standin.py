"""Runs inside Triton in place of its tensorrt backend: a plan of these tests is a header with the graph
behind it, which ONNX Runtime runs. The file is found as the real backend finds it: by the name that
``cc_model_filenames`` gives the compute capability, else ``model.plan``."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

HEADER = 28


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        assert config["platform"] == "tensorrt_plan", config["platform"]
        names = config.get("cc_model_filenames", {})
        name = names.get(os.environ.get("STANDIN_CAPABILITY", ""), "model.plan")
        plan = Path(args["model_repository"], args["model_version"], name).read_bytes()
        wanted = os.environ.get("STANDIN_TENSORRT", "10.5.0.18")
        got = ".".join(str(part) for part in plan[24:HEADER])
        if got != wanted:
            raise pb_utils.TritonModelException(
                "The engine plan file is not compatible with this version of TensorRT, expecting "
                f"library version {wanted} got {got}, please rebuild."
            )
        self.session = onnxruntime.InferenceSession(
            plan[HEADER:], providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        names = [value.name for value in self.session.get_outputs()]
        responses = []
        for request in requests:
            feed = {
                value.name: pb_utils.get_input_tensor_by_name(request, value.name).as_numpy()
                for value in self.session.get_inputs()
            }
            results = self.session.run(names, feed)
            tensors = [
                pb_utils.Tensor(n, np.asarray(r)) for n, r in zip(names, results, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
