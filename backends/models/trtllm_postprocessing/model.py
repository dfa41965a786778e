"""Triton python model: tokens of a TensorRT-LLM engine to text.

In: TOKENS_BATCH (INT32 [batch, beams, tokens]) and SEQUENCE_LENGTH (INT32 [batch, beams]). Out: OUTPUT
(BYTES [batch, beams]). Of a stream each answer is decoded by itself: a word's leading space is kept,
a character that several tokens make up is not put together.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizing import SPACE, tokenizer


class TritonPythonModel:
    def initialize(self, args):
        given = json.loads(args["model_config"])["parameters"]
        said = {name: value["string_value"] for name, value in given.items()}
        self.skip = said["skip_special_tokens"] == "true"
        self.tokenizer = tokenizer(said["tokenizer_dir"])

    def execute(self, requests):
        answers = []
        for request in requests:
            tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
            lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
            texts = [
                [self.text(beam[:length]) for beam, length in zip(row, sizes, strict=True)]
                for row, sizes in zip(tokens, lengths, strict=True)
            ]
            made = np.array(texts, dtype=object).reshape(lengths.shape)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", made)]))
        return answers

    def text(self, tokens):
        ids = [int(token) for token in tokens]
        text = self.tokenizer.decode(ids, self.skip)
        first = self.tokenizer.token(ids[0]) if ids else None
        if isinstance(first, str) and first.startswith(SPACE) and not text.startswith(" "):
            text = " " + text
        return text.encode("utf-8")
