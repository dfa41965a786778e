"""Triton python model: passes text requests to an OpenAI-type server of this machine, and streams.

The tensors are those of Triton's vLLM backend. In: ``text_input``, and optionally ``stream``,
``sampling_parameters`` (a JSON object) and ``exclude_input_in_output``. Out: ``text_output``,
``finish_reason``, ``num_input_tokens`` and ``num_output_tokens`` (0 where the server does not count).
As with that backend, the prompt stands before a whole answer unless it is excluded.

Parameters: ``server_file`` (a file with the server's address, read at each request, so that a
restarted server is found), ``model``, ``endpoint`` (``chat`` or ``completions``), ``workers`` (requests
at once) and ``timeout`` in seconds. The server's key, if any, is in the variable VLLM_API_KEY.
"""

import http.client
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
LINE_CAP = 1 << 20
ANSWER_CAP = 16 << 20


class Refused(Exception):
    """The server refused, in its words."""


class TritonPythonModel:
    def initialize(self, args):
        given = json.loads(args["model_config"])["parameters"]
        said = {name: value["string_value"] for name, value in given.items()}
        self.server_file = Path(said["server_file"])
        self.model = said["model"]
        self.chat = said["endpoint"] == "chat"
        self.timeout = float(said["timeout"])
        self.pool = ThreadPoolExecutor(int(said["workers"]), thread_name_prefix="proxy")

    def execute(self, requests):
        for request in requests:
            self.pool.submit(self.serve, Asked(request, self.chat, self.model))
        # Decoupled: answers go through each request's sender.

    def finalize(self):
        self.pool.shutdown(wait=True)

    def serve(self, asked):
        sender = asked.sender
        try:
            body = asked.body()
            pieces = self.pieces(asked, body)
            if asked.stream:
                self.stream(sender, pieces)
            else:
                whole = Piece.joined(pieces)
                if not asked.exclude:
                    whole.text = asked.prompt + whole.text
                sender.send(whole.response(), flags=FINAL)
        # Nobody looks at what a thread of the pool raises, and the client would wait for ever.
        except Exception as error:  # noqa: BLE001 - a foreign server's answer may have any shape
            problem = pb_utils.TritonError(str(error) or type(error).__name__)
            sender.send(pb_utils.InferenceResponse(error=problem), flags=FINAL)

    @staticmethod
    def stream(sender, pieces):
        """Each piece as it comes; the last one ends the answer."""
        before = Piece()
        for piece in pieces:
            if sender.is_cancelled():
                pieces.close()
                break
            if before.text or before.finish:
                sender.send(before.response())
            before = piece.after(before)
        sender.send(before.response(), flags=FINAL)

    def pieces(self, asked, body):
        """What the server says, piece by piece."""
        parts = urlsplit(self.server_file.read_text(encoding="ascii").strip())
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)
        headers = {"Content-Type": "application/json"}
        key = os.environ.get("VLLM_API_KEY")
        if key:
            headers["Authorization"] = "Bearer " + key
        path = "/v1/chat/completions" if self.chat else "/v1/completions"
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(words(response.status, response.read(LINE_CAP)))
            if not asked.stream:
                yield Piece.read(json.loads(response.read(ANSWER_CAP)))
                return
            for event in events(response):
                yield Piece.read(event)
        finally:
            connection.close()


def events(response):
    """The JSON objects of an event stream, up to ``[DONE]``."""
    while True:
        line = response.readline(LINE_CAP)
        if not line:
            raise Refused("the server broke off before its answer was whole")
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        yield json.loads(data)


def words(status, content):
    """What a refusing server says."""
    text = content.decode("utf-8", "replace")
    try:
        told = json.loads(text)
        told = told.get("error", told)
        text = told.get("message", text) if isinstance(told, dict) else str(told)
    except (ValueError, AttributeError):
        pass  # it is no JSON object: its text is told as it is
    return "vLLM answers %d: %s" % (status, text[:500])


class Asked:
    """One request of a client."""

    def __init__(self, request, chat, model):
        self.sender = request.get_response_sender()
        self.chat, self.model = chat, model
        self.prompt = text_of(request, "text_input") or ""
        self.sampling = text_of(request, "sampling_parameters") or "{}"
        self.stream = flag_of(request, "stream")
        self.exclude = flag_of(request, "exclude_input_in_output")

    def body(self):
        """The body for the server: the client's sampling parameters under what is ours to say."""
        sampling = json.loads(self.sampling)
        if not isinstance(sampling, dict):
            raise ValueError('sampling_parameters is a JSON object: {"max_tokens": 64}')
        if sampling.get("n") not in (None, 1):
            raise ValueError("n: a request has one answer; send it several times")
        made = dict(sampling, model=self.model, stream=self.stream)
        if self.chat:
            made["messages"] = [{"role": "user", "content": self.prompt}]
        else:
            made["prompt"] = self.prompt
        if self.stream:
            made["stream_options"] = {"include_usage": True}
        return made


class Piece:
    """A part of an answer, or a whole one."""

    def __init__(self, text="", finish="", taken=0, made=0):
        self.text, self.finish, self.taken, self.made = text, finish, taken, made

    @classmethod
    def read(cls, event):
        if event.get("error"):
            raise Refused(words(200, json.dumps(event).encode()))
        usage = event.get("usage") or {}
        counts = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        for choice in event.get("choices") or ():
            part = choice.get("message") or choice.get("delta") or choice
            text = part.get("content") if "content" in part else part.get("text")
            return cls(text or "", choice.get("finish_reason") or "", *counts)
        return cls("", "", *counts)

    @classmethod
    def joined(cls, pieces):
        whole = cls()
        for piece in pieces:
            text = whole.text + piece.text
            whole = piece.after(whole)
            whole.text = text
        return whole

    def after(self, before):
        """This piece with what only an earlier or a later one says of the whole."""
        self.taken, self.made = self.taken or before.taken, self.made or before.made
        self.finish = self.finish or before.finish
        return self

    def response(self):
        return pb_utils.InferenceResponse(
            [
                tensor("text_output", [self.text.encode("utf-8")], np.object_),
                tensor("finish_reason", [self.finish.encode("utf-8")], np.object_),
                tensor("num_input_tokens", [self.taken], np.uint32),
                tensor("num_output_tokens", [self.made], np.uint32),
            ]
        )


def tensor(name, values, kind):
    return pb_utils.Tensor(name, np.array(values, dtype=kind))


def text_of(request, name):
    found = pb_utils.get_input_tensor_by_name(request, name)
    return None if found is None else found.as_numpy().reshape(-1)[0].decode("utf-8")


def flag_of(request, name):
    found = pb_utils.get_input_tensor_by_name(request, name)
    return found is not None and bool(found.as_numpy().reshape(-1)[0])
