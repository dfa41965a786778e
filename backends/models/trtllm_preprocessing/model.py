"""Triton python model: text to tokens, in front of a TensorRT-LLM engine.

In: QUERY (BYTES [batch, 1]), and optional REQUEST_OUTPUT_LEN (INT32 [batch, 1]), STOP_WORDS_DICT
and BAD_WORDS_DICT (BYTES [batch, words]). Out: INPUT_ID (INT32 [batch, longest], padded at the end),
REQUEST_INPUT_LEN, REQUEST_OUTPUT_LEN, OUT_END_ID and OUT_PAD_ID (INT32 [batch, 1]), and the two word
lists as TensorRT-LLM wants them: INT32 [batch, 2, tokens], the tokens of all words one after the
other, then where each word ends, padded with 0 and -1.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizing import tokenizer


class TritonPythonModel:
    def initialize(self, args):
        given = json.loads(args["model_config"])["parameters"]
        said = {name: value["string_value"] for name, value in given.items()}
        self.tokenizer = tokenizer(said["tokenizer_dir"])
        self.special = said["add_special_tokens"] == "true"
        self.default_tokens = int(said["default_tokens"])
        end = int(said["end_id"])
        if end < 0:
            end = self.tokenizer.special("eos_token")
        if end is None:
            raise pb_utils.TritonModelException(
                "the tokenizer has no end token: set the option end_id"
            )
        pad = self.tokenizer.special("pad_token")
        self.end, self.pad = end, end if pad is None else pad

    def execute(self, requests):
        answers = []
        for request in requests:
            try:
                answers.append(pb_utils.InferenceResponse(self.answer(request)))
            except (UnicodeDecodeError, ValueError) as error:
                told = pb_utils.TritonError(str(error))
                answers.append(pb_utils.InferenceResponse([], told))
        return answers

    def answer(self, request):
        asked = pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy()
        texts = [row[0].decode("utf-8") for row in asked]
        rows = [self.tokenizer.encode(text, self.special) or [self.end] for text in texts]
        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), self.pad, dtype=np.int32)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        lengths = np.array([[len(row)] for row in rows], dtype=np.int32)
        wanted = pb_utils.get_input_tensor_by_name(request, "REQUEST_OUTPUT_LEN")
        if wanted is None:
            wanted = np.full((len(rows), 1), self.default_tokens, dtype=np.int32)
        else:
            wanted = wanted.as_numpy().astype(np.int32)
        tensors = {
            "INPUT_ID": ids,
            "REQUEST_INPUT_LEN": lengths,
            "REQUEST_OUTPUT_LEN": wanted,
            "STOP_WORDS_IDS": self.words(request, "STOP_WORDS_DICT", len(rows)),
            "BAD_WORDS_IDS": self.words(request, "BAD_WORDS_DICT", len(rows)),
            "OUT_END_ID": np.full((len(rows), 1), self.end, dtype=np.int32),
            "OUT_PAD_ID": np.full((len(rows), 1), self.pad, dtype=np.int32),
        }
        return [pb_utils.Tensor(name, value) for name, value in tensors.items()]

    def words(self, request, name, batch):
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is None:
            return np.empty((batch, 2, 0), dtype=np.int32)
        lists = []
        for row in tensor.as_numpy():
            words = [self.tokenizer.encode(word.decode("utf-8"), False) for word in row if word]
            ends = list(np.cumsum([len(word) for word in words], dtype=int))
            lists.append(([token for word in words for token in word], ends))
        longest = max(len(tokens) for tokens, _ in lists)
        made = np.zeros((batch, 2, longest), dtype=np.int32)
        made[:, 1] = -1
        for number, (tokens, ends) in enumerate(lists):
            made[number, 0, : len(tokens)] = tokens
            made[number, 1, : len(ends)] = ends
        return made
