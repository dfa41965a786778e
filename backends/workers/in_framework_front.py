"""The OpenAI-compatible front of `in_framework.py`: text in, Triton's tensors out, text back.

``GET /v1/health`` (200 when Triton says that both models are ready, else 503; it names Triton's own
ports), ``GET /v1/models``, ``POST /v1/completions`` and ``POST /v1/chat/completions``, both with
``"stream": true``. Upstream's own front answers 500 for Hugging Face models: it sends an input that
they do not declare. What this one cannot do it refuses with 400, and ignores nothing in silence.
"""

from __future__ import annotations

import http.client
import itertools
import json
import time
import uuid
from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

FAILED = "An error occurred:"  # how upstream's model tells a failure, with a status of 200
LISTENER = "listener"  # parameter of a request to the streaming model: who waits for its answer
LONGEST = 256
TIMEOUT = 600.0


class Refused(Exception):
    """The request's own fault: 400; or the model's: 500."""

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False


class Asked(BaseModel):
    """What both endpoints take. Members that OpenAI has and this has not are refused."""

    model_config = ConfigDict(extra="forbid")
    model: str
    max_tokens: int = Field(LONGEST, ge=1, le=1_000_000)
    temperature: float = Field(0.0, ge=0.0, le=2.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    n: int = Field(1, ge=1, le=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: str = ""


class Completion(Asked):
    prompt: str


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: str = Field(pattern=r"^(system|user|assistant)$")
    content: str


class Chat(Asked):
    messages: list[Message] = Field(min_length=1)


class Triton:
    """The two models of the Triton beside it, over HTTP."""

    def __init__(self, address, port, name, listening):
        self.address, self.port, self.name = address, port, name
        self.stream = f"{name}_stream"
        self.listening = listening

    def call(self, method, path, body=None, timeout=TIMEOUT):
        """An open response and its connection; `Refused` with Triton's own words for another
        status than 200."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        content = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except OSError as error:
            connection.close()
            raise Refused(f"Triton does not answer: {error}", 503) from error
        if response.status != 200:
            told = response.read(1 << 16).decode(errors="replace")
            connection.close()
            raise Refused(told or f"Triton answered {response.status}", 500)
        return response, connection

    def ready(self):
        try:
            for name in (self.name, self.stream):
                self.call("GET", f"/v2/models/{name}/ready", timeout=5.0)[1].close()
        except Refused:
            return False
        return True

    def whole(self, prompt, asked):
        """The text of one answer, through upstream's model."""

        def tensor(name, kind, value):
            return {"name": name, "shape": [1, 1], "datatype": kind, "data": [value]}

        body = {
            "inputs": [
                tensor("prompts", "BYTES", prompt),
                tensor("max_length", "INT64", asked.max_tokens),
                tensor("temperature", "FP32", asked.temperature),
                tensor("top_p", "FP32", asked.top_p),
                # 1 is the likeliest token always, 0 leaves none out.
                tensor("top_k", "INT64", 0 if asked.temperature else 1),
            ],
            "outputs": [{"name": "sentences"}],
        }
        response, connection = self.call("POST", f"/v2/models/{self.name}/infer", body)
        try:
            told = json.loads(response.read())
        finally:
            connection.close()
        text = told["outputs"][0]["data"][0]
        if text.startswith(FAILED):
            raise Refused(text, 500)
        return text

    def pieces(self, prompt, asked, listener):
        """Answers of the streaming model: dictionaries with text, finish_reason and counts.

        They end early when `listener` is taken out of those that are listening.
        """
        body = {
            LISTENER: listener,
            "prompt": prompt,
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
        }
        path = f"/v2/models/{self.stream}/generate_stream"
        self.listening.add(listener)
        try:
            response, connection = self.call("POST", path, body)
            try:
                while line := response.readline():
                    if line.startswith(b"data:"):
                        yield json.loads(line[5:])
            finally:
                connection.close()
        finally:
            self.listening.discard(listener)


class Events(StreamingResponse):
    """Events for a client; `left` is called as soon as it has gone, while the next one is made."""

    media_type = "text/event-stream"

    def __init__(self, content, left):
        super().__init__(content)
        self.left = left

    async def listen_for_disconnect(self, receive):
        await super().listen_for_disconnect(receive)
        self.left()


class Front:
    """The answers in OpenAI's shapes."""

    def __init__(self, deployable, given, listening):
        self.deployable, self.name = deployable, given.name
        self.triton = Triton(given.address, given.triton_port, given.name, listening)
        self.ports = {
            "http": given.triton_port,
            "grpc": given.grpc_port,
            "metrics": given.metrics_port,
        }

    def count(self, text):
        return len(self.deployable.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, asked):
        """The text that the model gets; of a conversation by its own template."""
        if isinstance(asked, Completion):
            return asked.prompt
        try:
            text = self.deployable.apply_chat_template([m.model_dump() for m in asked.messages])
        except ValueError as error:
            raise Refused(str(error)) from error
        begin = self.deployable.tokenizer.bos_token or ""
        ids = self.deployable.tokenizer(text)["input_ids"][:2]
        # The template writes the token that the tokenizer adds by itself.
        doubled = len(ids) == 2 and ids[0] == ids[1] == self.deployable.tokenizer.bos_token_id
        return text.removeprefix(begin) if doubled else text

    def answer(self, asked):
        if asked.model != self.name:
            raise Refused(f"there is no model {asked.model!r} here, there is {self.name!r}", 404)
        prompt = self.prompt(asked)
        length = len(self.deployable.tokenizer(prompt)["input_ids"])
        limit = getattr(self.deployable.model.config, "max_position_embeddings", None)
        if limit and length >= limit:
            raise Refused(f"the prompt has {length} tokens, and the model has room for {limit}")
        if limit:
            asked.max_tokens = min(asked.max_tokens, limit - length)
        chat = isinstance(asked, Chat)
        head = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": self.name,
        }
        if asked.stream:
            pieces = self.triton.pieces(prompt, asked, head["id"])
            first = next(pieces)  # a refusal of the model has a status of its own
            events = self.events(head, asked, first, pieces)
            return Events(events, partial(self.triton.listening.discard, head["id"]))
        text = self.triton.whole(prompt, asked)
        made = self.count(text)
        reason = "length" if made >= asked.max_tokens else "stop"
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice |= {"index": 0, "finish_reason": reason, "logprobs": None}
        return {**head, "choices": [choice], "usage": usage(length, made)}

    def events(self, head, asked, first, rest):
        chat = isinstance(asked, Chat)
        head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}
        try:
            for told in itertools.chain((first,), rest):
                if "error" in told:
                    yield event({"error": {"message": told["error"], "type": "server_error"}})
                    return
                text, reason = told["text"], told["finish_reason"] or None
                choice = {"delta": {"content": text}} if chat else {"text": text}
                yield event({**head, "choices": [{"index": 0, "finish_reason": reason, **choice}]})
                if reason and asked.stream_options.include_usage:
                    counted = usage(told["prompt_tokens"], told["completion_tokens"])
                    yield event({**head, "choices": [], "usage": counted})
        except (OSError, http.client.HTTPException) as error:
            yield event({"error": {"message": str(error), "type": "server_error"}})
            return
        yield b"data: [DONE]\n\n"


def event(told):
    return b"data: " + json.dumps(told).encode() + b"\n\n"


def usage(prompt, completion):
    """Tokens; of a whole answer those of its text, which the tokenizer is asked for again."""
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def refusal(message, status):
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind}}, status_code=status)


def make(deployable, given, listening):
    """The application. Its handlers are ordinary functions: each runs in a thread of its own.

    `listening` is a set that it shares with the streaming model: the requests whose clients are
    still there.
    """
    app = FastAPI(openapi_url=None)
    front = Front(deployable, given, listening)

    @app.exception_handler(Refused)
    def refused(request, error):
        return refusal(str(error), error.status)

    @app.exception_handler(RequestValidationError)
    def invalid(request, error):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return refusal(f"{where}: {first['msg']}", 400)

    @app.get("/v1/health")
    def health():
        ready = front.triton.ready()
        told = {"status": "ok" if ready else "not ready", "triton": front.ports}
        return JSONResponse(told, status_code=200 if ready else 503)

    @app.get("/v1/models")
    def models():
        entry = {"id": front.name, "object": "model", "created": 0, "owned_by": "tritondeck"}
        return {"object": "list", "data": [entry]}

    # `from __future__ import annotations` leaves names for FastAPI to look up in this module.
    @app.post("/v1/completions")
    def completions(asked: Completion):
        return front.answer(asked)

    @app.post("/v1/chat/completions")
    def chat(asked: Chat):
        return front.answer(asked)

    return app
