"""Triton python model: texts to token ids, in front of a text tower.

In: TEXT (BYTES [batch, 1], UTF-8). Out: input_ids and, where the tower takes one, attention_mask
(INT64 [batch, tokens]). Python 3.10 syntax.
"""

import json
from pathlib import Path

import packages
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        packages.use(config["parameters"]["packages"]["string_value"])
        import tokens

        self.bad = tokens.BadText
        self.tokens = tokens.Tokens(Path(args["model_repository"], args["model_version"]))
        self.masked = any(output["name"] == "attention_mask" for output in config["output"])

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        raw = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
        try:
            ids, mask = self.tokens.encode([text.decode("utf-8") for text in raw])
        except (self.bad, UnicodeDecodeError) as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        tensors = [pb_utils.Tensor("input_ids", ids)]
        if self.masked:
            tensors.append(pb_utils.Tensor("attention_mask", mask))
        return pb_utils.InferenceResponse(tensors)
