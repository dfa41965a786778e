"""Triton python model: an image or a text to the best records of a store, or of candidates.

In, each BYTES or INT32 [batch, 1]: IMAGE (a whole file) or TEXT, one of them. Optional: TOP (how many
records), FILTER (JSON, see `store.py`), AGAINST (``image``, ``text`` or ``sentence``: the vectors of
the records that are searched), CANDIDATES (JSON list of texts that are compared in place of the store).
Out, [batch, 1]: BEST (BYTES, the caption or id of the best; empty where nothing fits), SCORE (FP32,
its cosine, -1 where nothing fits), MATCHES (BYTES, JSON list of ``{"id", "score", "document"}``).

Images and texts of requests that arrive together are embedded together. A request that cannot be
answered fails alone. Python 3.10 syntax.
"""

import json
from pathlib import Path

import numpy as np
import packages
import triton_python_backend_utils as pb_utils

MOST_CANDIDATES = 256


class Refused(Exception):
    """A request that cannot be answered; the message is for whoever sent it."""


class Query:
    """One row of one request."""

    def __init__(self, given):
        self.image, self.text = given.get("IMAGE"), given.get("TEXT")
        if (self.image is None) == (self.text is None):
            raise Refused("give exactly one of IMAGE and TEXT")
        self.top = int(given["TOP"]) if "TOP" in given else 0
        self.against = _text(given, "AGAINST")
        self.filter = _parsed(given, "FILTER", dict)
        self.candidates = _parsed(given, "CANDIDATES", list)
        if len(self.candidates) > MOST_CANDIDATES or not all(
            isinstance(text, str) for text in self.candidates
        ):
            raise Refused("CANDIDATES is a JSON list of at most %d texts" % MOST_CANDIDATES)


def _text(given, name):
    try:
        return given[name].decode("utf-8").strip() if name in given else ""
    except UnicodeDecodeError as error:
        raise Refused("%s is not UTF-8: %s" % (name, error)) from error


def _parsed(given, name, kind):
    text = _text(given, name)
    try:
        value = json.loads(text) if text else kind()
    except ValueError as error:
        raise Refused("%s is not JSON: %s" % (name, error)) from error
    if not isinstance(value, kind):
        raise Refused("%s is not a JSON %s" % (name, "object" if kind is dict else "list"))
    return value


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        packages.use(self.parameters["packages"])
        import store

        self.batch = max(1, config["max_batch_size"])
        self.batching = config["max_batch_size"] > 0
        self.inputs = [spec["name"] for spec in config["input"]]
        self.version = int(args["model_version"])
        self.error = store.StoreError
        folder = Path(args["model_repository"], args["model_version"])
        settings = store.load(folder)
        self.store = store.open_store(settings, store.spaces_of(folder, settings)).open()

    def finalize(self):
        self.store.close()

    def execute(self, requests):
        rows = [self._read(request) for request in requests]
        queries = [query for row in rows if isinstance(row, list) for query in row]
        self._embed(queries)
        return [self._respond(row) for row in rows]

    def _read(self, request):
        """The queries of one request, or what is wrong with it."""
        tensors = {}
        for name in self.inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                tensors[name] = tensor.as_numpy().reshape(-1)
        try:
            return [
                Query({name: values[row] for name, values in tensors.items()})
                for row in range(len(next(iter(tensors.values()), ())))
            ]
        except Refused as error:
            return error

    # ------------------------------------------------------------------ vectors

    def _embed(self, queries):
        """Give each query `vector`, or `error`; queries of a kind go together."""
        kinds = {}
        for query in queries:
            query.error = None
            kinds.setdefault(self._model(query), []).append(query)
        for (name, tensor), group in kinds.items():
            for first in range(0, len(group), self.batch):
                part = group[first : first + self.batch]
                values = [query.text if tensor == "TEXT" else query.image for query in part]
                try:
                    found = self._vectors(name, tensor, values)
                    for query, vector in zip(part, found):  # noqa: B905
                        query.vector = vector
                except Refused as error:
                    self._alone(name, tensor, part, error)

    def _alone(self, name, tensor, part, error):
        """After a batch failed: each by itself, so that only the one at fault fails."""
        for query in part:
            try:
                if len(part) == 1:
                    raise error
                value = query.text if tensor == "TEXT" else query.image
                (query.vector,) = self._vectors(name, tensor, [value])
            except Refused as mine:
                query.error = mine

    def _model(self, query):
        """Which model makes this query's vector, and from which tensor."""
        if query.image is not None:
            return self.parameters["image_model"], "IMAGE"
        against = query.against or self.parameters["text_searches"]
        sentence = against == "sentence" and not query.candidates
        return self.parameters["sentence_model" if sentence else "text_model"], "TEXT"

    def _vectors(self, model, tensor, values):
        if not model:
            raise Refused("this model has no sentence encoder")
        shape = (-1, 1) if self.batching else (-1,)
        asked = pb_utils.InferenceRequest(
            model_name=model,
            model_version=self.version,
            requested_output_names=["EMBEDDING"],
            inputs=[pb_utils.Tensor(tensor, np.array(values, object).reshape(shape))],
        )
        answer = asked.exec()
        if answer.has_error():
            raise Refused(answer.error().message())
        found = pb_utils.get_output_tensor_by_name(answer, "EMBEDDING").as_numpy()
        return found if self.batching else found[None]

    # ------------------------------------------------------------------ answers

    def _respond(self, row):
        if isinstance(row, Refused):
            return _failed(row)
        try:
            found = [self._found(query) for query in row]
        except (Refused, self.error) as error:
            return _failed(error)
        best = [
            str(matches[0]["document"].get("caption", matches[0]["id"])) if matches else ""
            for matches in found
        ]
        scores = [matches[0]["score"] if matches else -1.0 for matches in found]
        listed = [json.dumps(matches, ensure_ascii=False).encode("utf-8") for matches in found]
        return pb_utils.InferenceResponse(
            [
                self._column("BEST", [text.encode("utf-8") for text in best], object),
                self._column("SCORE", scores, np.float32),
                self._column("MATCHES", listed, object),
            ]
        )

    def _found(self, query):
        """The matches of one query, best first."""
        if query.error is not None:
            raise query.error
        top = query.top or int(self.parameters["top"])
        if query.candidates:
            return self._among(query, top)
        kind = "image_searches" if query.image is not None else "text_searches"
        column = query.against or self.parameters[kind]
        if query.image is not None and column == "sentence":
            raise Refused("an image and a sentence vector are of two models: nothing to compare")
        rows = self.store.search(column, query.vector, top, query.filter)
        return [{"id": i, "score": round(float(s), 6), "document": d} for i, s, d in rows]

    def _among(self, query, top):
        texts, vectors = query.candidates, []
        for first in range(0, len(texts), self.batch):
            part = [text.encode("utf-8") for text in texts[first : first + self.batch]]
            vectors.append(self._vectors(self.parameters["text_model"], "TEXT", part))
        scores = np.concatenate(vectors) @ query.vector
        order = np.argsort(-scores, kind="stable")[:top]
        return [
            {"id": texts[i], "score": round(float(scores[i]), 6), "document": {"caption": texts[i]}}
            for i in order
        ]

    def _column(self, name, values, dtype):
        array = np.array(values, dtype)
        return pb_utils.Tensor(name, array[:, None] if self.batching else array)


def _failed(error):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
