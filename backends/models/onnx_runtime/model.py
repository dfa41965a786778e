"""Triton python model: any ONNX graph in ONNX Runtime, for servers without the onnxruntime backend.

Names, types and shapes of inputs and outputs are those of the configuration, which are the graph's.
Requests with equal shapes that arrive together are run as one batch. Python 3.10 syntax.
"""

import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        import onnxruntime

        config = json.loads(args["model_config"])
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if parameters["device"] == "cuda":
            available = onnxruntime.get_available_providers()
            if "CUDAExecutionProvider" not in available:
                raise RuntimeError(
                    "device is cuda, but the installed ONNX Runtime %s has only %s: "
                    "install onnxruntime-gpu in the serving environment, or set device to cpu"
                    % (onnxruntime.__version__, ", ".join(available))
                )
            gpu = int(args["model_instance_device_id"])
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
        path = str(Path(args["model_repository"], args["model_version"], "model.onnx"))
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.verbose = parameters["verbose"] == "true"
        self.batching = config["max_batch_size"] > 0
        self.batch = max(1, config["max_batch_size"])
        self.inputs = [spec["name"] for spec in config["input"]]
        self.outputs = [spec["name"] for spec in config["output"]]
        # A tensor that has only the batch dimension in the graph is [B, 1] for Triton (reshape).
        ranks = {
            t.name: len(t.shape) for t in self.session.get_inputs() + self.session.get_outputs()
        }
        self.flat = {name for name, rank in ranks.items() if self.batching and rank == 1}
        self.scalar = {name for name, rank in ranks.items() if rank == 0}
        self.texts = {t.name for t in self.session.get_inputs() if t.type == "tensor(string)"}

    def execute(self, requests):
        started = time.perf_counter()
        feeds = [self._feed(request) for request in requests]
        answers = [None] * len(requests)
        for group in self._groups(feeds):
            try:
                outputs = self._run([feeds[i] for i in group])
            # ONNX Runtime raises its own exception classes and RuntimeError, by version; whatever
            # it is, it fails the requests of this batch and not the server.
            except Exception as error:  # noqa: BLE001
                response = pb_utils.TritonError("ONNX Runtime: %s" % error)
                for i in group:
                    answers[i] = pb_utils.InferenceResponse(error=response)
            else:
                for i, tensors in zip(group, outputs):  # noqa: B905
                    answers[i] = pb_utils.InferenceResponse(output_tensors=tensors)
        if self.verbose:
            elapsed = time.perf_counter() - started
            pb_utils.Logger.log_info("%d request(s) in %.3f s" % (len(requests), elapsed))
        return answers

    def _feed(self, request):
        feed = {}
        for name in self.inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                continue
            value = tensor.as_numpy()
            if name in self.texts:
                decoded = [item.decode("utf-8", "replace") for item in value.reshape(-1)]
                value = np.array(decoded, object).reshape(value.shape)
            if name in self.flat or name in self.scalar:
                value = value.reshape(value.shape[:1] if name in self.flat else ())
            feed[name] = value
        return feed

    def _groups(self, feeds):
        """Indices of requests that may run together: same inputs, same shapes but for the batch."""
        groups = {}
        for index, feed in enumerate(feeds):
            key = tuple((name, value.shape[1:], str(value.dtype)) for name, value in feed.items())
            rows = len(next(iter(feed.values()))) if self.batching and feed else self.batch
            group = groups.setdefault(key, [])
            if not group or group[-1][0] + rows > self.batch:
                group.append([0, []])
            group[-1][0] += rows
            group[-1][1].append(index)
        return [indices for group in groups.values() for _, indices in group]

    def _run(self, feeds):
        """Outputs of one batch, split again: a list of tensors for each of `feeds`."""
        if len(feeds) == 1:
            joined = feeds[0]
        else:
            joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        results = dict(zip(self.outputs, self.session.run(self.outputs, joined)))  # noqa: B905
        answers, first = [], 0
        for feed in feeds:
            rows = len(next(iter(feed.values()))) if self.batching and feed else 0
            tensors = []
            for name, value in results.items():
                part = value[first : first + rows] if len(feeds) > 1 else value
                if name in self.flat:
                    part = part[:, None]
                elif name in self.scalar:
                    part = np.reshape(part, (1,))
                if part.dtype == object:
                    encoded = [str(item).encode("utf-8") for item in part.reshape(-1)]
                    part = np.array(encoded, object).reshape(part.shape)
                tensors.append(pb_utils.Tensor(name, part))
            answers.append(tensors)
            first += rows
        return answers
