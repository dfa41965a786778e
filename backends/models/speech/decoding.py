"""Greedy CTC decoding, pieces to text, and word times. NumPy alone, Python 3.10 syntax.

``vocabulary.json``, written by the export, holds the pieces and how the checkpoint's tokenizer joins
them, so that no tokenizer package is needed to serve. A checkpoint of several languages has one
vocabulary for each, one after another in the same head.
"""

import json
import re
from pathlib import Path

import numpy as np

SPACE = "\u2581"  # SentencePiece's word boundary


class Vocabulary:
    """Token ids to text, as the checkpoint's own tokenizer does it."""

    languages = ()
    masked = False

    def __init__(self, path, saved=None):
        saved = saved or json.loads(Path(path).read_text(encoding="utf-8"))
        self.pieces = saved["pieces"]
        self.blank = saved["blank"]
        self.kind = saved["kind"]
        self.seconds_per_step = saved["seconds_per_step"]
        self.unknown = frozenset(saved["unknown"])
        self.unknown_text = saved["unknown_text"]
        self.silent = frozenset(saved["control"])
        self.bytes = frozenset(saved["byte"])
        self.strip_first = saved["strip_first"]
        self.strip_all = saved["strip_all"]
        marks = saved["punctuation"]
        self.marks = frozenset(marks)
        self._before_mark = (
            re.compile(r"(\s)(" + "|".join(map(re.escape, marks)) + ")") if marks else None
        )

    def columns(self, language):
        """The range of ids that a language has; None for all of them."""
        return

    def text(self, ids):
        """The text of token ids."""
        joined = getattr(self, "_join_" + self.kind)(ids)
        return self._before_mark.sub(r"\2", joined) if self._before_mark else joined

    def _join_char(self, ids):
        return "".join(self.pieces[i] for i in ids)

    def _join_wpe(self, ids):
        return " ".join(self.pieces[i] for i in ids).replace(" ##", "").strip()

    def _join_bpe(self, ids):
        """SentencePiece's own rules: spaces for word boundaries but the first, bytes as UTF-8."""
        text, pending, first = "", bytearray(), True
        for index in ids:
            if index in self.bytes:
                pending.append(int(self.pieces[index][3:-1], 16))
                continue
            text += pending.decode("utf-8", "replace")
            pending.clear()
            if index in self.silent:
                continue
            if index in self.unknown:
                text += self.unknown_text
                continue
            piece = self.pieces[index]
            if self.strip_first and first and not text and piece.startswith(SPACE):
                piece = piece[1:]
                first = self.strip_all
            text += piece.replace(SPACE, " ")
        return text + pending.decode("utf-8", "replace")

    def _starts_word(self, index):
        if self.kind == "wpe":
            return not self.pieces[index].startswith("##")
        if self.kind == "char":
            return self.pieces[index] == " "
        return self.pieces[index].startswith(SPACE)

    def words(self, tokens, offset=0.0):
        """Words with their times: a list of {"word", "start", "end", "confidence"}.

        `tokens` are `greedy`'s; times are seconds, `offset` is added. A word begins with its first
        token's first step and ends with its last token's last one; confidence is the geometric
        mean of its tokens' probabilities.
        """
        groups = []
        for token in tokens:
            if not groups or self._starts_word(token[0]):
                groups.append([])
            groups[-1].append(token)
        words = []
        for group in groups:
            word = self.text([token[0] for token in group]).strip()
            end = round(offset + group[-1][2] * self.seconds_per_step, 3)
            if word and words and all(mark in self.marks for mark in word):
                words[-1]["word"] += word  # the text has no space before a punctuation mark either
                words[-1]["end"] = end
            elif word:
                words.append(
                    {
                        "word": word,
                        "start": round(offset + group[0][1] * self.seconds_per_step, 3),
                        "end": end,
                        "confidence": round(confidence(group), 4),
                    }
                )
        return words


class Languages(Vocabulary):
    """The vocabularies of several languages; each stretch of text is joined by its own rules."""

    def __init__(self, saved):
        self.parts = [Vocabulary(None, part) for part in saved["parts"]]
        self.languages = tuple(saved["languages"])
        self.masked = saved["masked"]  # the head means something only within one language
        self.blank = saved["blank"]
        self.seconds_per_step = saved["seconds_per_step"]
        self.marks = self.parts[0].marks
        self.offsets = np.cumsum([0] + [part.blank for part in self.parts])

    def columns(self, language):
        if not language:
            return None
        index = self.languages.index(language)
        return int(self.offsets[index]), int(self.offsets[index + 1])

    def _place(self, index):
        """The vocabulary of an id, and the id in it."""
        part = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return self.parts[part], index - int(self.offsets[part])

    def text(self, ids):
        stretches = []
        for index in ids:
            part, local = self._place(index)
            if not stretches or stretches[-1][0] is not part:
                stretches.append((part, []))
            stretches[-1][1].append(local)
        text = ""
        for part, local in stretches:
            space = " " if text and part._starts_word(local[0]) else ""
            text += space + part.text(local)
        return text

    def _starts_word(self, index):
        part, local = self._place(index)
        return part._starts_word(local)


def load_vocabulary(path):
    """The vocabulary, or the vocabularies, that the export saved."""
    saved = json.loads(Path(path).read_text(encoding="utf-8"))
    return Languages(saved) if "parts" in saved else Vocabulary(None, saved)


def within(logprobs, columns, blank):
    """Log probabilities [T, V+1] given that only ids of `columns` and blank can be."""
    kept = np.zeros(logprobs.shape[1], bool)
    kept[slice(*columns)] = kept[blank] = True
    rest = np.where(kept, logprobs, -np.inf)
    largest = rest.max(axis=1, keepdims=True)
    return rest - largest - np.log(np.exp(rest - largest).sum(axis=1, keepdims=True))


def greedy(logprobs, length, blank, columns=None):
    """Collapse the best path of log probabilities [T, V+1] over the first `length` steps.

    Returns a list of (id, first step, step after the last, best log probability). `columns` is the
    range of ids to choose from, beside blank.
    """
    logprobs = logprobs[:length]
    if columns is not None and length:
        logprobs = within(logprobs, columns, blank)
    best = logprobs.argmax(axis=1)
    scores = logprobs[np.arange(len(best)), best]
    changes = np.flatnonzero(np.diff(best)) + 1
    starts = np.concatenate([[0], changes]) if len(best) else changes
    ends = np.append(starts[1:], len(best))
    return [
        (int(best[s]), int(s), int(e), float(scores[s:e].max()))
        for s, e in zip(starts, ends)  # noqa: B905
        if best[s] != blank
    ]


def confidence(tokens):
    """Geometric mean of the tokens' probabilities; 0 when there are none."""
    return float(np.exp(np.mean([token[3] for token in tokens]))) if tokens else 0.0
