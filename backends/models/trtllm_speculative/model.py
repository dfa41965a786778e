"""Triton python model: text to text with a draft model (speculative decoding by draft and target).

In and out are those of the ensemble: text_input (BYTES [1, 1]) with its sampling tensors, and
text_output (BYTES [1, 1]). Tokens are made by the preprocessing model. In each round the draft model
proposes tokens and the engine answers with those that it would have made itself and one more, so the
text is the engine's own. With `stream` each round is an answer of its own.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

WORDS = ("stop_words_list", "bad_words_list")
TOKENS = {
    "INPUT_ID": "input_ids",
    "REQUEST_OUTPUT_LEN": "request_output_len",
    "STOP_WORDS_IDS": "stop_words_list",
    "BAD_WORDS_IDS": "bad_words_list",
    "OUT_END_ID": "end_id",
    "OUT_PAD_ID": "pad_id",
}
ASKED = {
    "text_input": "QUERY",
    "max_tokens": "REQUEST_OUTPUT_LEN",
    "stop_words": "STOP_WORDS_DICT",
    "bad_words": "BAD_WORDS_DICT",
}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        said = {name: value["string_value"] for name, value in config["parameters"].items()}
        self.before, self.after = said["preprocessing"], said["postprocessing"]
        self.engine, self.draft = said["engine"], said["draft"]
        self.draft_tokens = int(said["draft_tokens"])
        self.sampling = json.loads(said["sampling"])
        self.decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)

    def execute(self, requests):
        if not self.decoupled:
            return [self.whole(request) for request in requests]
        for request in requests:
            sender = request.get_response_sender()
            try:
                for text in self.texts(request):
                    sender.send(pb_utils.InferenceResponse([text]))
            except (ValueError, pb_utils.TritonModelException) as error:
                sender.send(pb_utils.InferenceResponse([], pb_utils.TritonError(str(error))))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

    def whole(self, request):
        try:
            return pb_utils.InferenceResponse(list(self.texts(request)))
        except (ValueError, pb_utils.TritonModelException) as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))

    def texts(self, request):
        """The answer's pieces as tensors; one piece where no stream was asked for."""
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        if len(given["text_input"]) != 1:
            raise ValueError("with a draft model one text is taken at a time")
        made = self.tokens(given)
        stream = self.decoupled and bool(given.get("stream", np.array([False])).reshape(-1)[0])
        answer = []
        for new in self.rounds(request, made, self.settings(given)):
            if stream:
                yield self.text(new)
            answer += new
        if not stream:
            yield self.text(answer)

    def tokens(self, given):
        """What the engine is asked with, from the preprocessing model."""
        inputs = [
            pb_utils.Tensor(ours, given[name]) for name, ours in ASKED.items() if name in given
        ]
        found = self.ask(self.before, inputs, list(TOKENS))
        return {theirs: found[ours] for ours, theirs in TOKENS.items()}

    def settings(self, given):
        """Sampling tensors by the engine's names."""
        found = []
        for name, theirs in self.sampling:
            if name in given and name != "stream":
                found.append(pb_utils.Tensor(theirs, given[name]))
        return found

    def rounds(self, request, made, settings):
        """New tokens, a list for each round. The prompt grows by them."""
        tokens = [int(token) for token in made["input_ids"][0]]
        left = int(made["request_output_len"].reshape(-1)[0])
        end = int(made["end_id"].reshape(-1)[0])
        stops = list(word_lists(made["stop_words_list"][0]))
        start = len(tokens)
        while left > 0 and not request.is_cancelled():
            proposed, wanted = [], min(self.draft_tokens, left - 1)
            if wanted:
                proposed = self.generate(self.draft, tokens, wanted, made, settings)
                proposed = proposed[: proposed.index(end)] if end in proposed else proposed
            limit = len(proposed) + 1
            new = self.generate(self.engine, tokens, limit, made, settings, proposed)[:left]
            # An engine that ends says so by its end token, or by nothing after what was proposed.
            over = not new or end in new or new == proposed
            new = new[: new.index(end)] if end in new else new
            kept = until(tokens[start:] + new, stops)
            if kept is not None:
                new, over = new[: kept - (len(tokens) - start)], True
            tokens += new
            left -= len(new)
            if new:
                yield new
            if over:
                return

    def generate(self, model, tokens, limit, made, settings, proposed=()):
        """Tokens after `tokens`, at most `limit`, of the best beam."""
        inputs = [
            pb_utils.Tensor("input_ids", np.array([tokens], np.int32)),
            pb_utils.Tensor("input_lengths", np.array([[len(tokens)]], np.int32)),
            pb_utils.Tensor("request_output_len", np.array([[limit]], np.int32)),
            *(pb_utils.Tensor(name, made[name]) for name in ("end_id", "pad_id")),
            *(pb_utils.Tensor(name, made[name]) for name in WORDS if made[name].size),
            *settings,
        ]
        if proposed:
            inputs.append(pb_utils.Tensor("draft_input_ids", np.array([proposed], np.int32)))
        found = self.ask(model, inputs, ["output_ids", "sequence_length"])
        length = int(found["sequence_length"].reshape(-1)[0])
        return [int(token) for token in found["output_ids"][0][0][:length]]

    def text(self, tokens):
        ids = np.array([[tokens]], np.int32).reshape(1, 1, -1)
        inputs = [
            pb_utils.Tensor("TOKENS_BATCH", ids),
            pb_utils.Tensor("SEQUENCE_LENGTH", np.array([[len(tokens)]], np.int32)),
        ]
        return pb_utils.Tensor("text_output", self.ask(self.after, inputs, ["OUTPUT"])["OUTPUT"])

    def ask(self, model, inputs, outputs):
        """One answer of another model of this server, as arrays by name."""
        asked = pb_utils.InferenceRequest(
            model_name=model, requested_output_names=outputs, inputs=inputs
        )
        streams = self.decoupled and model in (self.engine, self.draft)
        answers = list(asked.exec(decoupled=True)) if streams else [asked.exec()]
        for answer in answers:
            if answer.has_error():
                raise pb_utils.TritonModelException(answer.error().message())
        full = [answer for answer in answers if answer.output_tensors()]
        if not full:
            raise pb_utils.TritonModelException("%s gave no answer" % model)
        return {tensor.name(): tensor.as_numpy() for tensor in full[-1].output_tensors()}


def word_lists(rows):
    """The words of TensorRT-LLM's list: all tokens one after the other, then where each word ends."""
    start = 0
    for end in rows[1]:
        if end <= 0:
            return
        yield [int(token) for token in rows[0][start:end]]
        start = end


def until(tokens, stops):
    """How many of `tokens` there are up to the end of the first stop word; None without one."""
    ends = []
    for word in stops:
        for at in range(len(tokens) - len(word) + 1):
            if tokens[at : at + len(word)] == word:
                ends.append(at + len(word))
                break
    return min(ends) if ends else None
