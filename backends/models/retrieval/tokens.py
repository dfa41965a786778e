"""Texts to the token ids that a text tower takes: a ``tokenizer.json`` and how it is padded."""

import json
from pathlib import Path

import numpy as np

MOST_CHARACTERS = 100_000


class BadText(ValueError):
    """What was sent cannot be used; the message is for whoever sent it."""


class Tokens:
    """The tokenizer of one folder: ``tokenizer.json`` and ``tokens.json``.

    `length` tokens at most, the rest is cut; ids are padded to `length`, or to the next multiple of
    `multiple` above the longest text, so that texts of like length run as one batch.
    """

    def __init__(self, folder):
        from tokenizers import Tokenizer

        self.settings = json.loads(Path(folder, "tokens.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
        self.tokenizer.enable_truncation(self.settings["length"])
        self.tokenizer.no_padding()

    def encode(self, texts):
        """`input_ids` and `attention_mask`, int64 [texts, tokens]."""
        if long := [text for text in texts if len(text) > MOST_CHARACTERS]:
            raise BadText("a text has %d characters, too many" % len(long[0]))
        rows = [encoded.ids for encoded in self.tokenizer.encode_batch(list(texts))]
        width = self.settings["length"]
        if multiple := self.settings["multiple"]:
            longest = max([1, *map(len, rows)])
            width = min(width, -(-longest // multiple) * multiple)
        ids = np.full((len(rows), width), self.settings["pad"], np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for row, found in enumerate(rows):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return ids, mask
