"""Runs inside Triton in place of TensorRT-LLM's backend, as a language that counts: after the token n
comes n + 1. Proposed tokens (draft_input_ids) are taken as far as they are right, and one more is added,
as an engine that was built for a draft model does. With the parameter ``errs`` every so many tokens are
wrong; ``last`` is followed by the end token."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        said = {name: value["string_value"] for name, value in config["parameters"].items()}
        self.errs, self.last = int(said.get("errs", 0)), int(said["last"])
        self.streams = config.get("model_transaction_policy", {}).get("decoupled", False)

    def after(self, token, end):
        if token >= self.last:
            return end
        return token + 2 if self.errs and (token + 1) % self.errs == 0 else token + 1

    def answer(self, request):
        def given(name):
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            return [] if tensor is None else [int(one) for one in tensor.as_numpy().reshape(-1)]

        token, end = given("input_ids")[given("input_lengths")[0] - 1], given("end_id")[0]
        proposed, made = given("draft_input_ids"), []
        for _ in range(given("request_output_len")[0]):
            token = self.after(token, end)
            made.append(token)
            if token == end or (proposed and proposed.pop(0) != token):
                break
        ids = pb_utils.Tensor("output_ids", np.array([[made]], np.int32))
        length = pb_utils.Tensor("sequence_length", np.array([[len(made)]], np.int32))
        return pb_utils.InferenceResponse([ids, length])

    def execute(self, requests):
        if not self.streams:
            return [self.answer(request) for request in requests]
        for request in requests:
            sender = request.get_response_sender()
            sender.send(self.answer(request))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None
