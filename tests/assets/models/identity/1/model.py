"""Answers each input as it came: NUMBERS → SAME_NUMBERS, TEXT → SAME_TEXT (both inputs optional)."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        outputs = []
        for name, empty in (
            ("NUMBERS", np.zeros((0,), np.float32)),
            ("TEXT", np.zeros((0,), object)),
        ):
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            values = empty if tensor is None else tensor.as_numpy()
            outputs.append(pb_utils.Tensor("SAME_" + name, values))
        return pb_utils.InferenceResponse(outputs)
