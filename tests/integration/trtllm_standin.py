"""Runs inside Triton in place of TensorRT-LLM's backend, behind the same tensors: it answers with the
prompt's own tokens, one a response when it is asked to stream, at most as many as are asked for."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            given = pb_utils.get_input_tensor_by_name
            length = int(given(request, "input_lengths").as_numpy().reshape(-1)[0])
            wanted = int(given(request, "request_output_len").as_numpy().reshape(-1)[0])
            ids = given(request, "input_ids").as_numpy().reshape(-1)[:length][:wanted]
            streaming = given(request, "streaming")
            pieces = [ids]
            if streaming is not None and streaming.as_numpy().reshape(-1)[0]:
                pieces = [ids[i : i + 1] for i in range(len(ids))]
            for piece in pieces:
                tokens = pb_utils.Tensor("output_ids", piece.reshape(1, 1, -1).astype(np.int32))
                size = pb_utils.Tensor("sequence_length", np.array([[len(piece)]], np.int32))
                sender.send(pb_utils.InferenceResponse([tokens, size]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
