"""Greedy transducer (RNNT and TDT) decoding over ONNX graphs. NumPy alone, Python 3.10 syntax.

``transducer.json``, written by the export, says how: the blank, the most symbols at one step, the
durations of a token-and-duration transducer (none for RNNT) and the shape of the prediction
network's state. Where the joint network is of one language of several, the prediction network still
counts the ids of all: ``offset`` is added to what it is told, and ``start`` begins.
"""

import json
from pathlib import Path

import numpy as np

OUTPUTS = ["outputs", "output_states_1", "output_states_2"]


class Transducer:
    """The search of NeMo's ``greedy_batch``: every recording has its own place in time, so that rows
    of unequal length share each call of the prediction and joint network."""

    def __init__(self, path, decoder_joint):
        """`decoder_joint` is the session of ``decoder_joint.onnx``."""
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        self.blank = saved["blank"]
        self.most = saved["max_symbols"]
        self.offset, self.start = saved.get("offset", 0), saved.get("start", saved["blank"])
        self.durations = np.array(saved["durations"], np.int64)
        self.layers, self.width = saved["state"]
        self.session = decoder_joint

    def __call__(self, encoded, steps, columns):
        """Tokens of each row: lists of (id, first step, step after the last, log probability).

        `encoded` is float32 [B, D, T], `steps` int64 [B]; `columns` holds for each row the range of
        ids that its language has, or None for all.
        """
        count = len(encoded)
        tokens = [[] for _ in range(count)]
        at, symbols = np.zeros(count, np.int64), np.zeros(count, np.int64)
        labels = np.full((count, 1), self.start, np.int32)
        states = [np.zeros((self.layers, count, self.width), np.float32) for _ in range(2)]
        masks = self._masks(columns)
        while True:
            rows = np.flatnonzero(at < steps)
            if not len(rows):
                return tokens
            scores, skips, fresh = self._step(encoded, at, labels, states, rows)
            if masks is not None:
                scores = np.where(masks[rows], scores, -np.inf)
            scores = log_softmax(scores)
            best = scores.argmax(axis=1)
            said = best != self.blank
            advance = np.where(said, skips, np.maximum(skips, 1))
            symbols[rows] += said
            # A model that never says blank would stay at one step for ever.
            advance = np.where((advance == 0) & (symbols[rows] >= self.most), 1, advance)
            for row, token, score, spoke, skip in zip(  # noqa: B905
                rows, best, scores.max(axis=1), said, skips
            ):
                if spoke:
                    end = min(int(steps[row]), int(at[row]) + max(1, int(skip)))
                    tokens[row].append((int(token), int(at[row]), end, float(score)))
            kept = rows[said]
            labels[kept, 0] = best[said] + self.offset
            for state, new in zip(states, fresh):  # noqa: B905
                state[:, kept] = new[:, said]
            at[rows] += advance
            symbols[rows[advance > 0]] = 0

    def _step(self, encoded, at, labels, states, rows):
        """Joint outputs [R, V+1], steps to go on [R] and the new states of `rows`."""
        feed = {
            "encoder_outputs": np.ascontiguousarray(encoded[rows, :, at[rows]][:, :, None]),
            "targets": labels[rows],
            "target_length": np.ones(len(rows), np.int32),
            "input_states_1": states[0][:, rows],
            "input_states_2": states[1][:, rows],
        }
        outputs, *fresh = self.session.run(OUTPUTS, feed)
        scores = outputs[:, 0, 0]
        if not len(self.durations):
            # RNNT stays at a step until blank; blank goes on by one.
            return scores, np.zeros(len(rows), np.int64), fresh
        tail = len(self.durations)
        skips = self.durations[scores[:, -tail:].argmax(axis=1)]
        return scores[:, :-tail], skips, fresh

    def _masks(self, columns):
        if all(limits is None for limits in columns):
            return None
        masks = np.zeros((len(columns), self.blank + 1), bool)
        for mask, limits in zip(masks, columns):  # noqa: B905
            mask[slice(*limits) if limits else slice(None)] = True
        masks[:, self.blank] = True
        return masks


def log_softmax(values):
    """Log probabilities of the last axis; unchanged where they are some already."""
    shifted = values - values.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
