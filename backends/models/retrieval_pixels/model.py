"""Triton python model: image files to pixels, in front of a vision tower.

In: IMAGE (BYTES [batch, 1], a whole file each). Out: pixel_values (FP32 [batch, 3, height, width]).
A file that cannot be used fails its own request only. Python 3.10 syntax.
"""

import json
from pathlib import Path

import numpy as np
import packages
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        packages.use(config["parameters"]["packages"]["string_value"])
        import pixels

        self.pixels = pixels
        self.settings = pixels.load(Path(args["model_repository"], args["model_version"]))

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        files = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)
        try:
            images = [self.pixels.pixels(self.pixels.decode(file), self.settings) for file in files]
        except self.pixels.BadImage as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor("pixel_values", np.stack(images))])
