"""Serve a Hugging Face model in PyTorch through PyTriton, with an OpenAI-compatible front.

Runs in the `inframework` environment, imports nothing of tritondeck; `in_framework_front.py` and
`triton_server.py` lie beside it. It stands in for Export-Deploy's
``scripts/deploy/nlp/deploy_inframework_hf_triton.py``, which no wheel carries, which binds its gRPC
and metrics ports to every interface at fixed numbers, and which needs CUDA. The model itself is
upstream's class, `nemo_deploy.llm.hf_deployable.HuggingFaceLLMDeploy`, as it is.

    python in_framework.py --model FOLDER --name NAME --device cpu --port 8080 \\
        --triton-port 8000 --grpc-port 8001 --metrics-port 8002

One Triton, two models: NAME has upstream's tensors (prompts BYTES [B, 1], max_length INT64 [B, 1] …
→ sentences BYTES [B, 1]), NAME_stream is decoupled and ours (prompt BYTES [1], max_tokens INT64 [1],
temperature FP32 [1], top_p FP32 [1] → text BYTES [1], finish_reason BYTES [1], prompt_tokens and
completion_tokens INT64 [1]), a piece of text an answer. Every request of the front goes through
Triton: what answers there has proved the tensors. A stream whose client has left the front is
generated no further; of a client of Triton itself that has gone PyTriton tells its models nothing.

All of it is one process tree. SIGTERM stops the front, then Triton, then this. When this process
is killed Triton is told by the kernel; when Triton dies this ends with 70.

Exit codes: 0 stopped, 70 (EX_SOFTWARE) the server died, 78 (EX_CONFIG) it cannot work here, with the
reason and the fix on stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import triton_server

EX_SOFTWARE = 70
EX_CONFIG = 78
STREAM = "_stream"
LONGEST = 256  # tokens of an answer where the request says nothing, as upstream has it
DTYPES = ("auto", "bfloat16", "float16", "float32")


class CannotServe(Exception):
    """It cannot work here: `reason`, and what helps."""

    def __init__(self, reason, fix):
        super().__init__(reason)
        self.fix = fix


def arguments(argv=None):
    parser = argparse.ArgumentParser(description="Serve a Hugging Face model through PyTriton.")
    parser.add_argument("--model", required=True, help="folder with config.json and weights")
    parser.add_argument("--name", required=True, help="what the served model is called")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="auto")
    parser.add_argument("--device-map", default="auto", help="how Accelerate spreads it over GPUs")
    parser.add_argument("--max-batch-size", type=int, default=8)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="of the OpenAI-compatible front")
    parser.add_argument("--triton-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--shm-prefix", default="", help="of Triton's regions in /dev/shm")
    parser.add_argument("--verbose", action="store_true", help="Triton's own verbose log")
    return parser.parse_args(argv)


def say(text):
    print(text, flush=True)


# ---------------------------------------------------------------------------- before the load


def prepare():
    """Put what Triton's stub needs in place, or raise `CannotServe`.

    The stub links plain ``libpython3.X.so.1.0``. Another build's than this interpreter's breaks every
    model with ``'_thread.RLock' object has no attribute '_recursion_count'``.
    """
    os.environ.update(triton_server.server_environment())
    try:
        triton_server.check_numpy()
        stub = triton_server.stub_file(triton_server.server_folder())
        loaded = triton_server.loaded_libraries(stub, os.environ)
        say(f"libpython of the stub: {triton_server.check_libpython(loaded)}")
    except triton_server.CannotServe as error:
        raise CannotServe(error.summary, error.fix) from error


def choose_device(device):
    """Make sure of the device. Raises `CannotServe` without CUDA where it was asked for."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if device == "cuda":
        if not torch.cuda.is_available():
            raise CannotServe("PyTorch finds no CUDA device", "use --device cpu for a small model")
        return
    # Upstream moves every input with an unconditional .cuda(), in all its versions.
    torch.Tensor.cuda = lambda self, *args, **kwargs: self
    say(
        "device cpu: Tensor.cuda() leaves tensors where they are, since nemo_deploy always calls it"
    )


# ---------------------------------------------------------------------------- the models


def load(given):
    """Upstream's deployable with the model and its tokenizer."""
    import torch
    from nemo_deploy.llm.hf_deployable import HuggingFaceLLMDeploy

    class Deployable(HuggingFaceLLMDeploy):
        """Upstream always takes the likeliest token, whatever temperature a request has."""

        def generate(self, **kwargs):
            if kwargs.get("top_k") == 1 or not kwargs.get("temperature"):
                greedy = {"do_sample": False, "top_k": None, "top_p": None, "temperature": None}
                return super().generate(**{**kwargs, **greedy})
            sampled = {"do_sample": True, "top_p": float(kwargs.get("top_p") or 1.0)}
            sampled["temperature"] = float(kwargs["temperature"])
            return super().generate(**{**kwargs, **sampled})

    say(f"loading {given.model}")
    made = Deployable(
        hf_model_id_path=given.model,
        torch_dtype=given.dtype if given.dtype == "auto" else getattr(torch, given.dtype),
        device_map="cpu" if given.device == "cpu" else given.device_map,
        trust_remote_code=given.trust_remote_code,
    )
    # A tokenizer that gives more makes transformers refuse: "model_kwargs are not used by the model".
    made.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    made.model.eval()
    return made


def texts(deployable, prompt, max_tokens, temperature, top_p, wanted=lambda: True):
    """Generate for one prompt: pieces of text as they come, each with (finish_reason,
    prompt_tokens, completion_tokens); the reason is empty but for the last one. `wanted` is asked
    at each token, and the answer ends when it says no."""
    import torch
    from transformers import StoppingCriteriaList, TextIteratorStreamer

    def unwanted(ids, scores, **rest):
        return torch.full((len(ids),), not wanted(), device=ids.device)

    tokenizer, model = deployable.tokenizer, deployable.model
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    options = {"max_new_tokens": max_tokens, "do_sample": temperature > 0, "streamer": streamer}
    options["stopping_criteria"] = StoppingCriteriaList([unwanted])
    if temperature > 0:
        options |= {"temperature": temperature, "top_p": top_p}
    else:
        options |= {"temperature": None, "top_p": None, "top_k": None}
    outcome = {}

    def work():
        try:
            outcome["ids"] = model.generate(**inputs, **options)[0]
        except Exception as error:  # noqa: BLE001 - it belongs to the request that waits elsewhere
            outcome["error"] = error
            streamer.end()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    length = inputs["input_ids"].shape[1]
    for piece in streamer:
        if piece:
            yield piece, "", length, 0
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    made = len(outcome["ids"]) - length
    yield "", "length" if made >= max_tokens else "stop", length, made


def bind(triton, deployable, given, listening):
    """Both models, with their tensors. `listening` has the front's requests that are still wanted."""
    import numpy as np
    from in_framework_front import LISTENER
    from pytriton.model_config import ModelConfig, Tensor

    triton.bind(
        model_name=given.name,
        infer_func=deployable.triton_infer_fn,
        # Upstream declares max_length twice.
        inputs=list({tensor.name: tensor for tensor in deployable.get_triton_input}.values()),
        outputs=deployable.get_triton_output,
        config=ModelConfig(max_batch_size=given.max_batch_size),
    )

    def streamed(requests):
        (request,) = requests
        prompt = request["prompt"].flatten()[0].decode()

        def one(name, default):
            return request[name].flatten()[0].item() if name in request else default

        listener = (request.parameters or {}).get(LISTENER)
        told = texts(
            deployable,
            prompt,
            one("max_tokens", LONGEST),
            one("temperature", 0.0),
            one("top_p", 1.0),
            lambda: listener is None or listener in listening,
        )
        for text, reason, before, made in told:
            yield [
                {
                    "text": np.array([text.encode()], dtype=bytes),
                    "finish_reason": np.array([reason.encode()], dtype=bytes),
                    "prompt_tokens": np.array([before], dtype=np.int64),
                    "completion_tokens": np.array([made], dtype=np.int64),
                }
            ]

    triton.bind(
        model_name=given.name + STREAM,
        infer_func=streamed,
        inputs=[
            Tensor(name="prompt", shape=(1,), dtype=bytes),
            Tensor(name="max_tokens", shape=(1,), dtype=np.int64, optional=True),
            Tensor(name="temperature", shape=(1,), dtype=np.float32, optional=True),
            Tensor(name="top_p", shape=(1,), dtype=np.float32, optional=True),
        ],
        outputs=[
            Tensor(name="text", shape=(1,), dtype=bytes),
            Tensor(name="finish_reason", shape=(1,), dtype=bytes),
            Tensor(name="prompt_tokens", shape=(1,), dtype=np.int64),
            Tensor(name="completion_tokens", shape=(1,), dtype=np.int64),
        ],
        config=ModelConfig(batching=False, decoupled=True),
    )


# ---------------------------------------------------------------------------- serve


def configuration(given):
    """Every port chosen and on the one address; upstream leaves gRPC and metrics to defaults."""
    from pytriton.triton import TritonConfig

    return TritonConfig(
        http_address=given.address,
        http_port=given.triton_port,
        grpc_address=given.address,
        grpc_port=given.grpc_port,
        metrics_address=given.address,
        metrics_port=given.metrics_port,
        exit_timeout_secs=10,
        log_verbose=1 if given.verbose else None,
    )


def serve(given):
    """Until SIGTERM: 0. Until Triton dies: 70."""
    import in_framework_front
    import uvicorn
    from pytriton.triton import Triton

    class Server(Triton):
        """PyTriton invents a prefix; regions under ours can be removed after a crash."""

        def _shm_prefix(self):
            return given.shm_prefix or super()._shm_prefix()

    deployable = load(given)
    # Sockets lie in the workspace, and their paths have room for 107 characters.
    with tempfile.TemporaryDirectory(prefix="tritondeck-") as workspace:
        triton = Server(config=configuration(given), workspace=Path(workspace) / "w")
        listening = set()
        bind(triton, deployable, given, listening)
        triton.run()
        try:
            app = in_framework_front.make(deployable, given, listening)
            front = uvicorn.Server(
                uvicorn.Config(
                    app,
                    host=given.address,
                    port=given.port,
                    log_level="warning",
                    timeout_graceful_shutdown=5,
                )
            )
            died = watch(triton, front)
            say(f"ready: http://{given.address}:{given.port}/v1/models")
            front.run()
        finally:
            triton.stop()
    return EX_SOFTWARE if died.is_set() else 0


def watch(triton, front):
    """An event that is set when Triton is gone; the front ends then."""
    died = threading.Event()

    def look():
        while not front.should_exit:
            if not triton.is_alive():
                say("Triton has ended")
                died.set()
                front.should_exit = True
            threading.Event().wait(1.0)

    threading.Thread(target=look, daemon=True).start()
    return died


def main():
    given = arguments()

    def ended(number, frame):
        raise SystemExit(0)

    # Before anything is started: a stop during the load ends it as well.
    signal.signal(signal.SIGTERM, ended)
    try:
        prepare()
        choose_device(given.device)
        return serve(given)
    except CannotServe as error:
        print(f"error: {error}\nfix: {error.fix}", file=sys.stderr)
        return EX_CONFIG


if __name__ == "__main__":
    sys.exit(main())
